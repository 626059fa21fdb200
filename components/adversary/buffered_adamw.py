"""AdamW whose moments are buffers, so that they are saved and moved with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BufferedAdamW(nn.Module):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as ``torch.optim.AdamW``.

    A classifier that learns inside a task, beside the loop's own optimiser, keeps its moments here:
    a checkpoint of the task's buffers is then all that an exact resume needs.

    Args:
        lr: rate.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: of parameters with two dimensions or more.
    """

    updates: Tensor

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.float64))

    def setup(self, parameters: Sequence[Tensor]) -> None:
        """Create zero moments for ``parameters``; :meth:`update` takes them in the same order."""
        for number, parameter in enumerate(parameters):
            for name in ("first", "second"):
                self.register_buffer(f"{name}_{number}", torch.zeros_like(parameter.detach()))

    @torch.no_grad()
    def reset(self) -> None:
        """Forget all moments."""
        for buffer in self.buffers():
            buffer.zero_()

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Move ``parameters`` in place; nothing waits for the device."""
        self.updates += 1
        first_share, second_share = self.betas
        rate = self.lr / (1.0 - first_share**self.updates)
        root = (1.0 - second_share**self.updates).sqrt()
        for number, (value, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            first = self.get_buffer(f"first_{number}")
            second = self.get_buffer(f"second_{number}")
            if value.ndim > 1:
                value.mul_(1.0 - self.lr * self.weight_decay)
            first.lerp_(gradient, 1.0 - first_share)
            second.mul_(second_share).addcmul_(gradient, gradient, value=1.0 - second_share)
            value.sub_(rate * first / (second.sqrt() / root + self.eps))
