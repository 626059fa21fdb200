"""The gradient reversal layer of Ganin and Lempitsky 2015 (arXiv 1409.7495)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from components.adversary.lambda_schedules import LambdaSchedule


class _ReverseGradient(torch.autograd.Function):
    """Identity forward, ``-factor`` times the gradient backward."""

    @staticmethod
    def forward(x: Tensor, factor: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (factor,) = ctx.saved_tensors
        return gradients[0] * -factor, None


def reverse_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """Return ``x``, and give the gradient that comes back multiplied by ``-factor``, once.

    Args:
        x: of any shape and floating dtype, which the gradient keeps.
        factor: scalar tensor. A tensor, because ``torch.compile`` would freeze a number into the
            graph, or compile anew for each value.

    Raises:
        TypeError: if ``factor`` is no tensor.
    """
    if not isinstance(factor, Tensor):
        raise TypeError(f"factor must be a scalar tensor, such as a buffer; got {factor!r}")
    reversed_: Tensor = _ReverseGradient.apply(x, factor.detach())
    return reversed_


class GradientReversal(nn.Module):
    """Reverses gradients by a factor that follows a schedule in steps of its own.

    ``step`` and ``factor`` are buffers, saved with the weights. Loading restores the step; the
    factor follows from it and the present schedule, so the first step after a resume has that of
    the run that was stopped, or of the schedule that was changed.

    Args:
        schedule: factor by step; its value at step 0 is what a new run starts with.
        delay: steps before the schedule begins, in which the factor is 0.
    """

    step: Tensor
    factor: Tensor

    def __init__(self, *, schedule: LambdaSchedule, delay: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.delay = delay
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("factor", torch.tensor(self._factor(0)))
        self.register_load_state_dict_post_hook(_follow_the_step)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``; its gradient is reversed by the present factor."""
        return reverse_gradient(x, self.factor)

    def advance(self) -> None:
        """Go on by one step; call it once for each optimiser step, not for each micro-batch."""
        self.step += 1
        self.factor.fill_(self._factor(int(self.step)))

    def _factor(self, step: int) -> float:
        return self.schedule(step - self.delay) if step > self.delay else 0.0


def _follow_the_step(reversal: nn.Module, keys: object) -> None:
    """Set the factor that belongs to the step which was loaded."""
    assert isinstance(reversal, GradientReversal)
    if not reversal.step.is_meta:
        reversal.factor.fill_(reversal._factor(int(reversal.step)))
