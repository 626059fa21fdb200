"""CTC on logits that the caller has: statistics forward, gradient backward, both by chunks."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.ctc import passes
from kernels.ctc.batch import Batch, Chunk
from kernels.ctc.engine import Engine, RowStatistics
from kernels.ctc.options import Options
from kernels.dtypes import accumulation_dtype


class Found(NamedTuple):
    """What the forward pass found.

    Args:
        losses: (B,) in nats.
        impossible: (B,) bool, utterances without an alignment.
        columns: (B, T, S) gradient of each loss with respect to the logits of its utterance's own
            columns; None if not asked for.
    """

    losses: Tensor
    impossible: Tensor
    columns: Tensor | None


def forward(
    engine: Engine, batch: Batch, logits: Tensor, options: Options, *, gradient: bool
) -> Found:
    """Return the losses of (B, T, V) logits and, with ``gradient``, what :func:`backward` needs."""
    classes = logits.shape[2]
    parts = [
        engine.rows(
            _rows(chunk, logits),
            batch.columns,
            chunk.of(batch.utterances),
            None,
            options.terms,
            out=None,
        )
        for chunk in batch.chunks(passes.logit_rows(options, classes, logits))
    ]
    found = _joined(batch, parts, accumulation_dtype(logits.dtype), logits.device)
    ctc, posteriors = passes.align(engine, batch, found.emissions, posteriors=gradient)
    losses = passes.utterance_losses(batch, ctc, found.regulariser, options)
    if posteriors is None:
        return Found(losses, ctc == torch.inf, None)
    columns = passes.column_gradients(batch, options.terms, classes, found, posteriors)
    return Found(losses, ctc == torch.inf, batch.unpack(columns))


def backward(
    engine: Engine,
    batch: Batch,
    logits: Tensor,
    found: Found,
    grad_losses: Tensor,
    options: Options,
) -> Tensor:
    """Return (B, T, V) the gradient of the losses weighted by (B,) ``grad_losses``."""
    assert found.columns is not None
    batch = replace(batch, feasible=~found.impossible)
    weights = passes.gradient_weights(batch, grad_losses.to(found.columns.dtype), options)
    row_weights = batch.live(weights)
    values = batch.pack(passes.weighted(batch, found.columns, weights))
    # Rows that are all frames are all written.
    allocate = torch.empty if batch.frames is None else torch.zeros
    result = allocate(logits.shape, dtype=logits.dtype, device=logits.device)
    flat = result.flatten(0, 1)
    for chunk in batch.chunks(passes.logit_rows(options, logits.shape[2], logits)):
        rows = _rows(chunk, logits)
        place = chunk.place(flat)
        out = torch.empty_like(rows) if place is None else place
        utterances = chunk.of(batch.utterances)
        engine.rows(rows, batch.columns, utterances, chunk.of(row_weights), options.terms, out=out)
        engine.add_columns(out, batch.columns, utterances, chunk.of(values))
        if place is None:
            chunk.put(out, flat)
    return result


def _rows(chunk: Chunk, logits: Tensor) -> Tensor:
    """Return the chunk's (n, V) logits; what is laid out time first is not copied as a whole."""
    if logits.is_contiguous():
        return chunk.take(logits.flatten(0, 1))
    frames = chunk.frames()
    width = logits.shape[1]
    return logits[frames // width, frames % width].contiguous()


def _joined(
    batch: Batch, parts: list[RowStatistics], dtype: torch.dtype, device: torch.device
) -> RowStatistics:
    """Put the statistics of chunks in the order of the rows."""
    if not parts:
        nothing = torch.empty(0, dtype=dtype, device=device)
        return RowStatistics(nothing.new_empty((0, batch.columns.shape[1])), nothing, nothing)
    if len(parts) == 1:
        return parts[0]
    joined = (
        torch.cat([value.unflatten(0, (batch.views, -1)) for value in values], dim=1).flatten(0, 1)
        if values[0].shape[0]
        else values[0]
        for values in zip(*parts, strict=True)
    )
    return RowStatistics(*joined)
