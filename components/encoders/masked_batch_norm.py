"""Batch normalisation whose statistics come from real frames only, on one rank or over all."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

CountedFrames = Literal["real_frames", "all_frames"]
Moments = tuple[Tensor, Tensor, Tensor]
"""Number of frames, and mean and variance of each channel."""


class MaskedBatchNorm(nn.Module):
    """Normalise each channel over the real frames of a batch (Ioffe and Szegedy 2015).

    Padding takes part neither in the statistics nor in their gradient. A batch with fewer than two
    real frames leaves the running statistics as they are.

    With ``synchronise`` set and a process group initialised, statistics and their gradients are
    those of the frames of all ranks together; every rank must then run the same layers. It equals
    one process with the whole batch if the ranks' gradients are those of one summed loss.

    Args:
        dim: channels D.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics, which evaluation uses.
        over: ``all_frames`` counts padding like speech, as ``torch.nn.BatchNorm1d`` does and with
            it NeMo; how much padding a batch has then changes what is learnt.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        *,
        dim: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        over: CountedFrames = "real_frames",
    ) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.over = over
        self.synchronise = False
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D) of the same dtype.

        Args:
            x: activations.
            valid: (B, T) bool, true for real frames.
        """
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            shift = self.bias - self.running_mean * scale
            return torch.addcmul(shift, _full(x), scale).to(x.dtype)
        counted = valid if self.over == "real_frames" else torch.ones_like(valid)
        mask = counted.unsqueeze(-1).to(self.running_mean.dtype)
        synchronise = self.synchronise and dist.is_available() and dist.is_initialized()
        moments = _moments(x, mask, synchronise)
        self._track(moments)
        y: Tensor = _Normalise.apply(
            x, self.weight, self.bias, mask, *moments, self.eps, synchronise
        )
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, moments: Moments) -> None:
        count, mean, variance = moments
        momentum = self.momentum * (count > 1)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.add_(momentum * (mean - self.running_mean))
        self.running_var.add_(momentum * (unbiased - self.running_var))


class _Normalise(torch.autograd.Function):
    """Normalise by moments that were taken from ``x`` without gradient.

    The backward pass is that of the whole, moments included; it keeps one activation where
    composed operations keep five. The caller converts the result to the dtype of ``x``: under
    torch.compile (2.11) a function that returns ``.to`` of the dtype it has loses its gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor,
        count: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        synchronise: bool,
    ) -> Tensor:
        inverse = torch.rsqrt(variance + eps)
        scale = weight * inverse
        ctx.save_for_backward(x, weight, mask, mean, inverse, count)
        ctx.synchronise = synchronise
        return torch.addcmul(bias - mean * scale, _full(x), scale)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        x, weight, mask, mean, inverse, count = ctx.saved_tensors
        grad_y = _full(grad)
        normalised = (_full(x) - mean) * inverse
        grad_bias = grad_y.sum((0, 1))
        grad_weight = (grad_y * normalised).sum((0, 1))
        sums = torch.stack([grad_bias, grad_weight])
        if ctx.synchronise:
            dist.all_reduce(sums)
        through_mean, through_variance = sums / count.clamp(min=1)
        grad_x = grad_y - mask * torch.addcmul(through_mean, normalised, through_variance)
        grad_x = (grad_x * (weight * inverse)).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _full(x: Tensor) -> Tensor:
    """Return half-precision activations as float32, in which statistics are taken."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@torch.no_grad()
def _moments(x: Tensor, mask: Tensor, synchronise: bool) -> Moments:
    """Return count, mean and variance of real frames, of all ranks if ``synchronise``."""
    full = _full(x)
    count = mask.sum()
    mean = (full * mask).sum((0, 1)) / count.clamp(min=1)
    squares = ((full - mean) * mask).square().sum((0, 1))
    if synchronise:
        count, mean, squares = _merge(count, mean, squares)
    return count, mean, squares / count.clamp(min=1)


def _merge(count: Tensor, mean: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Combine counts, means and summed squared deviations of all ranks (Chan et al. 1979)."""
    own = torch.cat([count.reshape(1), mean, squares])
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    ranks = torch.stack(gathered)
    counts, means, deviations = ranks.split([1, mean.numel(), mean.numel()], dim=1)
    total = counts.sum()
    merged = (counts * means).sum(0) / total.clamp(min=1)
    between = (counts * (means - merged).square()).sum(0)
    return total, merged, deviations.sum(0) + between
