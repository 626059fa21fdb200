"""Inputs of the masked loss, and the loss as NeMo computes it: for all frames, then selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.dispatch import interpreting
from kernels.masked_ce import MaskedLoss, masked_cross_entropy

BACKENDS = ("torch", "triton")
ALL_BACKENDS = (*BACKENDS, "reference")
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True, kw_only=True)
class Example:
    """Arguments of the op."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Tensor
    mask: Tensor

    def leaves(self, *, grad: tuple[bool, bool, bool] = (True, True, True)) -> Example:
        """Return a copy whose parameters are leaves, of which some require a gradient."""
        hidden, weight = self.hidden.detach().clone(), self.weight.detach().clone()
        bias = None if self.bias is None else self.bias.detach().clone().requires_grad_(grad[2])
        return replace(
            self,
            hidden=hidden.requires_grad_(grad[0]),
            weight=weight.requires_grad_(grad[1]),
            bias=bias,
        )

    def to(self, dtype: torch.dtype) -> Example:
        """Return a copy with parameters of another dtype."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, hidden=self.hidden.to(dtype), weight=self.weight.to(dtype), bias=bias)

    def loss(self, **options: object) -> MaskedLoss:
        """Return the op's loss with its statistics."""
        call: Callable[..., MaskedLoss] = masked_cross_entropy
        return call(
            self.hidden,
            self.weight,
            self.bias,
            self.targets,
            self.mask,
            with_statistics=True,
            **options,
        )

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Return the gradients of the parameters that are leaves."""
        given = (self.hidden, self.weight, self.bias)
        leaves = [leaf for leaf in given if leaf is not None and leaf.requires_grad]
        return list(torch.autograd.grad(loss.sum(), leaves, retain_graph=True))


def example(
    device: torch.device,
    *,
    shape: tuple[int, int] = (3, 7),
    books: int = 2,
    vocabulary: int = 37,
    width: int = 10,
    bias: bool = True,
    masked: float = 0.5,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Example:
    """Return random arguments; targets of frames that are not masked are garbage."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=rng) < masked
    targets = torch.randint(vocabulary, (*shape, books), generator=rng)
    targets[~mask] = -(2**40)
    weight = torch.randn(books, vocabulary, width, generator=rng)
    return Example(
        hidden=torch.randn(*shape, width, generator=rng).to(device, dtype),
        weight=weight.to(device, dtype),
        bias=torch.randn(books, vocabulary, generator=rng).to(device, dtype) if bias else None,
        targets=targets.to(device),
        mask=mask.to(device),
    )


def dense(given: Example, reduction: str = "mean") -> Tensor:
    """Return NeMo's loss: log-softmax (B, T, V, C) of every frame, then the masked ones."""
    heads = []
    for book, weight in enumerate(given.weight):
        shift = None if given.bias is None else given.bias[book]
        logits = F.linear(given.hidden, weight, shift)
        # As autocast does on CUDA.
        wide = torch.promote_types(logits.dtype, torch.float32)
        heads.append(logits.log_softmax(dim=-1, dtype=wide))
    log_probs = torch.stack(heads, dim=-1)
    losses = torch.zeros(given.targets.shape, dtype=log_probs.dtype, device=log_probs.device)
    by_book = []
    for book in range(len(heads)):
        selected = log_probs[given.mask][..., book]
        by_book.append(F.nll_loss(selected, given.targets[given.mask][..., book], reduction="none"))
        losses = losses.index_put(
            (*given.mask.nonzero(as_tuple=True), torch.tensor(book, device=losses.device)),
            by_book[-1],
        )
    if reduction == "none":
        return losses
    if reduction == "sum":
        return torch.stack([losses.sum() for losses in by_book]).sum()
    return torch.stack([losses.mean() for losses in by_book]).mean()


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compare the norm of differences to that of what is expected."""
    for one, other in zip(found, expected, strict=True):
        error = (one.double() - other.double()).norm()
        assert error <= tolerance * (other.double().norm() + 1e-3)


def skip_if_interpreting(backend: str) -> None:
    """Skip Triton where its interpreter would round bfloat16 by truncation."""
    if backend == "triton" and interpreting():
        pytest.skip("the interpreter truncates to bfloat16")
