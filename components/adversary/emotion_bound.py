"""A bound on the emotion vector, so that it cannot grow where it should forget."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.contracts import LossSum
from core.errors import ConfigError, suggest
from core.registry import register

Bound = Literal["none", "rms", "centred"]
_TINY = 1e-12
_MOMENTUM = 0.9


class _WithoutCommonGradient(torch.autograd.Function):
    """Identity forward; backward, rows lose the mean of their gradients."""

    @staticmethod
    def forward(x: Tensor, rows: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (rows,) = ctx.saved_tensors
        weight = rows.unsqueeze(1).to(gradients[0].dtype)
        common = (gradients[0] * weight).sum(0) / weight.sum().clamp_min(1.0)
        # The mean of a single row is all of it.
        return gradients[0] - weight * common * (weight.sum() > 1), None


@register("bound", "emotion")
class EmotionBound(nn.Module):
    """Give every emotion vector the same root mean square, or leave it as it is.

    An encoder can win against a reversed gradient by blowing its output up, which makes a frozen
    classifier wrong and hides nothing. Put this where the vector leaves the emotion branch, so that
    the language model and the classifiers get the same one: bounding the classifiers' input alone
    changes nothing that the model learns.

    ``centred`` takes away the mean of all vectors first. What a fresh encoder says is mostly one
    vector, the same for everything it hears, and dividing by its size leaves little of the
    difference between utterances. It also closes the other way out: an encoder that says the same
    of everything has nothing left but its smallest differences, at full size.

    The mean is a running one over optimiser steps, which :meth:`after_step` moves on; so what goes
    out does not depend on how rows are divided into micro-batches and ranks. A running mean lags,
    and an encoder whose vectors all move on together outruns it: to the classifiers all rows then
    look alike, while a probe still tells them apart. So the gradient loses what the rows of a
    micro-batch have in common, as behind a batch normalisation (Ioffe and Szegedy 2015). That
    alone depends on the division; a micro-batch of one row keeps all of its gradient.

    Args:
        bound: ``rms`` divides each vector by its root mean square and multiplies by ``target``;
            ``centred`` does so with what differs from the running mean; ``none`` is the identity.
        target: root mean square of what comes out. :meth:`calibrate` replaces it by that of a
            trained model, whose other parts expect that scale. It is saved with the weights.
    """

    target: Tensor
    centre: Tensor
    steps: Tensor

    def __init__(self, *, bound: Bound = "none", target: float = 1.0) -> None:
        super().__init__()
        if bound not in get_args(Bound):
            raise ConfigError(
                f"bound/emotion: there is no bound {bound!r}; "
                f"{suggest(bound, get_args(Bound), noun='bounds')}"
            )
        if not target > 0.0:
            raise ConfigError(f"bound/emotion: target must be positive, but is {target}")
        self.bound: Bound = bound
        self.register_buffer("target", torch.tensor(float(target)))
        self._seen: list[Tensor] = []

    def setup(self, *, dim: int) -> None:
        """Make room for the mean of vectors of ``dim`` numbers."""
        if self.bound == "centred":
            self.register_buffer("centre", torch.zeros(dim))
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, emotion: Tensor, *, heard: Tensor | None = None) -> Tensor:
        """Map (B, D) to (B, D) of the same dtype; computed in float32.

        Args:
            emotion: (B, D).
            heard: (B,) bool, rows that the encoder made; None for all. The others, stored vectors,
                have no part in the mean and in what gradients have in common.
        """
        if self.bound == "none":
            return emotion
        wide = emotion.float()
        if self.bound == "centred":
            if heard is None:
                heard = torch.ones(len(wide), dtype=torch.bool, device=wide.device)
            if self.training:
                self._seen.append(wide.detach()[heard])
            wide = _WithoutCommonGradient.apply(wide, heard) - self.centre
        return (wide * (self.target / _rms(wide))).to(emotion.dtype)

    @torch.no_grad()
    def after_step(self, *, finite: bool) -> None:
        """Move the mean on by the rows of a step; collective, once for each optimiser step.

        Args:
            finite: whether the step was taken; one that was skipped moves nothing.
        """
        seen, self._seen = self._seen, []
        if self.bound != "centred" or not finite:
            return
        total = torch.zeros(len(self.centre) + 1, device=self.centre.device)
        for rows in seen:
            total[:-1] += rows.sum(0)
            total[-1] += len(rows)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        if float(total[-1]) == 0.0:
            return
        self.steps += 1
        # An average of all steps at first, so that the start is soon forgotten.
        share = max(1.0 - _MOMENTUM, 1.0 / int(self.steps))
        self.centre.lerp_(total[:-1] / total[-1], share)

    @torch.no_grad()
    def calibrate(self, emotion: Tensor) -> None:
        """Take the mean root mean square of (B, D) emotion vectors for ``target``."""
        self.target.copy_(_rms(emotion).mean())


def norm_penalty(emotion: Tensor, *, free: float = 0.0) -> LossSum:
    """Return the squared excess of each vector's root mean square over ``free``, summed over rows.

    Args:
        emotion: (B, D), not bounded.
        free: root mean square up to which a vector costs nothing.
    """
    excess = (_rms(emotion) - free).clamp_min(0.0)
    return LossSum(total=excess.square().sum(), count=float(len(emotion)))


def _rms(emotion: Tensor) -> Tensor:
    """Return (B, 1) root mean squares in float32, with a gradient at zero."""
    return emotion.float().square().mean(1, keepdim=True).add(_TINY).sqrt()
