"""What the CTC ops are compared with: brute force, the framework in float64, unfused equations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Example:
    """Arguments of ``linear_ctc_loss``; the logits are those of ``ctc_loss``."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    targets: Tensor
    input_lengths: Tensor
    target_lengths: Tensor

    @property
    def logits(self) -> Tensor:
        return self.hidden @ self.weight.T + self.bias

    @property
    def labels(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.targets, self.input_lengths, self.target_lengths

    @property
    def projection(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.hidden, self.weight, self.bias

    def to(self, dtype: torch.dtype) -> Example:
        cast = [tensor.detach().to(dtype).requires_grad_() for tensor in self.projection]
        return replace(self, hidden=cast[0], weight=cast[1], bias=cast[2])


def make_example(
    device: torch.device,
    *,
    input_lengths: Sequence[int] = (5, 3, 4),
    target_lengths: Sequence[int] = (3, 2, 0),
    classes: int = 11,
    width: int = 8,
    scale: float = 1.0,
    blank: int = 0,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Example:
    """Draw an example with padding in frames and targets; the first targets have a repeat."""
    generator = torch.Generator().manual_seed(seed)
    count, frames, labels = len(input_lengths), max(input_lengths), max(target_lengths)
    hidden = torch.randn(count, frames, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, width, generator=generator, dtype=torch.float64) * scale
    bias = torch.randn(classes, generator=generator, dtype=torch.float64) * scale
    others = torch.tensor([v for v in range(classes) if v != blank])
    drawn = torch.randint(len(others), (count, labels), generator=generator)
    targets = others[drawn]
    if labels > 1:
        targets[0, 1] = targets[0, 0]
    example = Example(
        hidden=hidden,
        weight=weight * width**-0.5,
        bias=bias,
        targets=targets.to(device),
        input_lengths=torch.tensor(input_lengths, device=device),
        target_lengths=torch.tensor(target_lengths, device=device),
    )
    return replace(
        example,
        **{
            name: getattr(example, name).to(device, dtype).requires_grad_()
            for name in ("hidden", "weight", "bias")
        },
    )


def brute_force(logits: Tensor, labels: Sequence[int], blank: int) -> Tensor:
    """Sum the probabilities of all V^T alignments of (T, V) float64 logits that collapse."""
    log_probs = logits.log_softmax(dim=1)
    frames, classes = logits.shape
    paths = [
        torch.stack([log_probs[t, symbol] for t, symbol in enumerate(path)]).sum()
        for path in itertools.product(range(classes), repeat=frames)
        if [symbol for symbol, _ in itertools.groupby(path) if symbol != blank] == list(labels)
    ]
    return -torch.logsumexp(torch.stack(paths), dim=0)


def unfused(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    label_smoothing: float = 0.0,
    entropy_bonus: float = 0.0,
    blank_penalty: float = 0.0,
    consistency: float = 0.0,
) -> Tensor:
    """Compute the loss in float64 with the framework's CTC, term by term, on CPU."""
    logits = logits.to("cpu", torch.float64)
    targets, input_lengths, target_lengths = (
        x.cpu() for x in (targets, input_lengths, target_lengths)
    )
    shift = F.one_hot(torch.tensor(blank), logits.shape[2]) * blank_penalty
    log_probs = (logits - shift).log_softmax(dim=2)
    probs = log_probs.exp()
    inside = torch.arange(logits.shape[1]) < input_lengths.unsqueeze(1)
    losses = (1 - label_smoothing) * F.ctc_loss(
        log_probs.clamp(min=-1e30).transpose(0, 1),  # of -inf the framework makes NaN
        targets,
        input_lengths,
        target_lengths,
        blank=blank,
        reduction="none",
        zero_infinity=zero_infinity,
    )
    rows = torch.zeros_like(probs[:, :, 0])
    if label_smoothing:
        rows = rows - label_smoothing * log_probs.mean(dim=2)
    rows = rows - entropy_bonus * torch.special.entr(probs).sum(dim=2)
    if consistency:
        other = log_probs.detach().roll(logits.shape[0] // 2, dims=0)
        rows = rows + consistency * (other.exp() * (other - log_probs)).sum(dim=2)
    losses = losses + torch.where(inside, rows, 0.0).sum(dim=1)
    return reduced(losses, target_lengths, reduction)


def reduced(losses: Tensor, target_lengths: Tensor, reduction: str) -> Tensor:
    """Reduce (B,) losses."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean_batch":
        return losses.mean()
    if reduction == "mean_volume":
        return losses.sum() / target_lengths.sum().clamp(min=1)
    return (losses / target_lengths.clamp(min=1)).mean()


def gradients(loss: Tensor, leaves: Sequence[Tensor], **options: Any) -> list[Tensor]:
    """Return the gradients in float64 on CPU."""
    found = torch.autograd.grad(loss, leaves, **options)
    return [grad.detach().to("cpu", torch.float64) for grad in found]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference relative to that of ``expected``."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def padded_by(example: Example, frames: int, labels: int) -> Example:
    """Append padding of garbage to frames and targets."""
    hidden = F.pad(example.hidden.detach(), (0, 0, 0, frames), value=float("nan"))
    return replace(
        example,
        hidden=hidden.requires_grad_(),
        targets=F.pad(example.targets, (0, labels), value=-7),
    )
