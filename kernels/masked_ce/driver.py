"""The loop over chunks: project, read the logits once, push their gradient back at once.

Books share the frames' hidden vectors, so a group of books is one head with more classes: one
matrix product gives their logits, one adds up their gradients of the hidden vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.dtypes import accumulation_dtype
from kernels.masked_ce.chunks import book_groups, frame_chunks, rows_at_once
from kernels.masked_ce.engine import Engine
from kernels.products import accumulate, multiply


class Needs(NamedTuple):
    """Of which arguments the gradient is wanted."""

    hidden: bool
    weight: bool
    bias: bool


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Rows to compute, and the heads.

    Args:
        hidden: (N, D) of the dtype in which to multiply.
        weight: (C, V, D) of any floating dtype; cast a group of books at a time.
        bias: (C, V) or None.
        targets: (N, C) int64.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Tensor


class Outcome(NamedTuple):
    """Losses and hits (N, C) of the rows; gradients in float32 (float64), of size 0 if not needed.

    Args:
        losses: negative log-likelihoods.
        hits: bool.
        hidden: (N, D).
        weight: (C, V, D).
        bias: (C, V).
    """

    losses: Tensor
    hits: Tensor
    hidden: Tensor
    weight: Tensor
    bias: Tensor


def run(
    engine: Engine,
    problem: Problem,
    factors: Tensor | None,
    needs: Needs,
    chunk_bytes: int | None,
) -> Outcome:
    """Compute losses and the gradients of their sum weighted by ``factors``.

    Args:
        engine: the backend's pass over logits.
        problem: what to compute.
        factors: (N, C) weight of each loss in the sum, of the dtype of the losses; None for ones.
        needs: which gradients.
        chunk_bytes: budget for logits; None for the device's default.
    """
    hidden, weight = problem.hidden, problem.weight
    frames, (books, vocabulary, width) = hidden.shape[0], weight.shape
    outcome = _blank_outcome(problem, needs)
    per_row = vocabulary * engine.bytes_per_logit(hidden.dtype)
    rows = rows_at_once(chunk_bytes, per_row, hidden.device, frames)
    buffer = hidden.new_empty(min(rows, frames * books) * vocabulary)
    for group in book_groups(books, frames, rows):
        heads = weight[group].reshape(-1, width).to(hidden.dtype)
        shift = None if problem.bias is None else problem.bias[group].reshape(-1).to(hidden.dtype)
        for chunk in frame_chunks(frames, group.stop - group.start, rows):
            part = hidden[chunk]
            logits = buffer[: len(part) * len(heads)].view(len(part), len(heads))
            if shift is None:
                torch.mm(part, heads.T, out=logits)
            else:
                torch.addmm(shift, part, heads.T, out=logits)
            results = engine.rows(
                logits.view(-1, vocabulary),
                problem.targets[chunk, group].reshape(-1),
                None if factors is None else factors[chunk, group].reshape(-1),
                gradient=any(needs),
            )
            outcome.losses[chunk, group] = results.losses.view(len(part), -1)
            outcome.hits[chunk, group] = results.hits.view(len(part), -1)
            _push_back(outcome, needs, logits, part, heads, group, chunk)
    return outcome


def _push_back(
    outcome: Outcome,
    needs: Needs,
    gradient: Tensor,
    hidden: Tensor,
    heads: Tensor,
    group: slice,
    chunk: slice,
) -> None:
    """Add a chunk's gradient with respect to logits to those of hidden, weight and bias."""
    if needs.hidden:
        put = accumulate if group.start > 0 else multiply
        put(gradient, heads, outcome.hidden[chunk])
    if needs.weight:
        put = accumulate if chunk.start > 0 else multiply
        put(gradient.T, hidden, outcome.weight[group].view(heads.shape))
    if needs.bias:
        total = outcome.bias[group].view(-1)
        if chunk.start > 0:
            total += gradient.sum(dim=0, dtype=total.dtype)
        else:
            torch.sum(gradient, dim=0, dtype=total.dtype, out=total)


def _blank_outcome(problem: Problem, needs: Needs) -> Outcome:
    """Return the tensors to fill; the first chunk writes them, unless there is none."""
    dtype = accumulation_dtype(problem.hidden.dtype)
    frames, heads = problem.hidden.shape[0], problem.weight
    allocate = torch.empty if frames else torch.zeros

    def tensor(shape: tuple[int, ...], *, needed: bool = True) -> Tensor:
        return allocate(shape if needed else 0, dtype=dtype, device=heads.device)

    losses = tensor((frames, heads.shape[0]))
    return Outcome(
        losses=losses,
        hits=torch.empty_like(losses, dtype=torch.bool),
        hidden=tensor(tuple(problem.hidden.shape), needed=needs.hidden),
        weight=tensor(tuple(heads.shape), needed=needs.weight),
        bias=tensor(tuple(heads.shape[:2]), needed=needs.bias),
    )
