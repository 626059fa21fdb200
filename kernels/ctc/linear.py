"""Output projection, softmax and CTC in one pass over chunks of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.ctc import passes
from kernels.ctc.batch import Batch, Chunk
from kernels.ctc.engine import Engine, RowStatistics
from kernels.ctc.options import Options
from kernels.dtypes import accumulation_dtype
from kernels.half import half_factor
from kernels.products import accumulate, multiply


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Hidden states and the output layer, in the dtype of the products.

    Args:
        frames: (B * T, D) hidden states, 0 in padding.
        weight: (V, D).
        bias: (V,) or None.
    """

    frames: Tensor
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        padding: Tensor | None,
    ) -> Projection:
        """Cast to ``dtype`` and clear the padding, which may hold anything, NaN as well."""
        frames = hidden.detach().to(dtype).flatten(0, 1)
        if padding is not None:
            frames = frames.masked_fill(padding.unsqueeze(1), 0.0)
        bias = None if bias is None else bias.detach().to(dtype)
        return cls(frames=frames, weight=weight.detach().to(dtype), bias=bias)

    def logits(self, rows: Tensor, out: Tensor) -> Tensor:
        """Project (n, D) rows into (n, V) ``out``."""
        if self.bias is None:
            return torch.mm(rows, self.weight.T, out=out)
        if rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64):
            # There addmm first copies the bias to every row, which takes four times as long.
            return torch.mm(rows, self.weight.T, out=out).add_(self.bias)
        return torch.addmm(self.bias, rows, self.weight.T, out=out)


class Gradients(NamedTuple):
    """Sums of gradients, float32 (float64 for float64 products); None where none is asked for.

    Args:
        hidden: (B * T, D).
        weight: (V, D).
        bias: (V,).
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(cls, projection: Projection, *, hidden: bool, weight: bool, bias: bool) -> Gradients:
        """Start the sums that are asked for."""
        dtype = accumulation_dtype(projection.weight.dtype)

        def zeros(part: Tensor | None, wanted: bool) -> Tensor | None:
            if part is None or not wanted:
                return None
            return torch.zeros(part.shape, dtype=dtype, device=part.device)

        return cls(
            zeros(projection.frames, hidden),
            zeros(projection.weight, weight),
            zeros(projection.bias, bias),
        )

    def add_rows(self, chunk: Chunk, rows: Tensor, grad: Tensor, weight: Tensor) -> None:
        """Push the (n, V) gradient of a chunk's logits through the projection of its rows."""
        if self.hidden is not None:
            place = chunk.place(self.hidden)
            product = self.hidden.new_empty(rows.shape) if place is None else place
            multiply(grad, weight, product)
            if place is None:
                chunk.put(product, self.hidden)
        if self.weight is not None:
            accumulate(grad.T, rows, self.weight)
        if self.bias is not None:
            self.bias.add_(grad.sum(dim=0, dtype=self.bias.dtype))

    def add_columns(self, batch: Batch, projection: Projection, values: Tensor) -> None:
        """Push (B, T, S) gradients of the utterances' own columns through it, 0 in padding."""
        # On CPU float32 operands cost little for so few columns, and save a rounding.
        dtype = projection.weight.dtype if values.device.type == "cuda" else values.dtype
        narrow = values.to(dtype)
        if self.hidden is not None:
            hidden = self.hidden.unflatten(0, batch.shape)
            accumulate(narrow, projection.weight[batch.columns].to(dtype), hidden)
        if self.weight is not None:
            frames = projection.frames.unflatten(0, batch.shape).to(dtype)
            rows = values.new_empty((*batch.columns.shape, frames.shape[2]))
            multiply(narrow.transpose(1, 2), frames, rows)
            _add_columns(self.weight, batch, rows)
        if self.bias is not None:
            _add_columns(self.bias, batch, values.sum(dim=1))

    def divide(self, factor: Tensor) -> None:
        """Divide the sums by a factor."""
        for part in self:
            if part is not None:
                part.div_(factor)


def _add_columns(total: Tensor, batch: Batch, values: Tensor) -> None:
    """Add (B, S, ...) values to (V, ...) ``total`` at their columns, in an order that is fixed.

    A CPU does not sort by column, but within an utterance all values but the first of a column
    are 0, which any order adds up alike. CUDA sorts, then adds equal ones one after another: there
    those zeros, most of which are padding at the blank, are spread over all columns.
    """
    if total.device.type == "cpu":
        for columns, own_values in zip(batch.columns, values, strict=True):
            total.index_put_((columns,), own_values, accumulate=True)
        return
    total.index_put_((spread_repeats(batch, total.shape[0]),), values, accumulate=True)


def spread_repeats(batch: Batch, classes: int) -> Tensor:
    """Return (B, S) columns with those that repeat an earlier one replaced by all in turn."""
    turns = torch.arange(batch.columns.numel(), device=batch.columns.device) % classes
    return torch.where(batch.repeated, turns.view(batch.columns.shape), batch.columns)


def without_forbidden(batch: Batch, bias: Tensor | None) -> Batch:
    """Take alignments from utterances that need a class whose bias of -inf forbids it.

    Finite products cannot undo such a bias, so that the weight of an utterance's gradient is
    known before the lattice is.
    """
    if bias is None:
        return batch
    forbidden = bias == -torch.inf
    # On CPU the host can look, elsewhere it would have to wait.
    if bias.device.type == "cpu" and not bool(forbidden.any()):
        return batch
    lost = forbidden[batch.columns]
    lost[:, 1:] &= batch.inside
    # Without blanks, labels follow each other at once and fill all frames.
    blanks = torch.where(batch.target_lengths == 0, batch.input_lengths, batch.repeats)
    lost[:, 0] &= blanks > 0
    return replace(batch, feasible=batch.feasible & ~lost.any(dim=1))


def losses(engine: Engine, batch: Batch, projection: Projection, options: Options) -> Tensor:
    """Return (B,) losses in nats; 2NVD FLOP."""
    found = _project(engine, batch, projection, options, None, None)
    ctc, _ = passes.align(engine, batch, found.emissions, posteriors=False)
    return passes.utterance_losses(batch, ctc, found.regulariser, options)


def losses_and_gradients(
    engine: Engine,
    batch: Batch,
    projection: Projection,
    options: Options,
    scale: Tensor,
    gradients: Gradients,
) -> Tensor:
    """Return (B,) losses, and add the gradients of their sum weighted by (B,) ``scale``.

    The softmax outside of an utterance's own columns goes through the projection in the pass that
    computes it; the few columns of the lattice follow when that is known (see
    :meth:`kernels.ctc.engine.Engine.lattice`). 6NVD FLOP, as without fusion.
    """
    batch = without_forbidden(batch, projection.bias)
    weights = passes.gradient_weights(batch, scale, options)
    factor = half_factor(weights) if projection.weight.dtype == torch.float16 else None
    if factor is not None:
        weights = weights * factor
    row_weights = batch.live(weights)
    found = _project(engine, batch, projection, options, row_weights, gradients)
    ctc, posteriors = passes.align(engine, batch, found.emissions, posteriors=True)
    assert posteriors is not None
    classes = projection.weight.shape[0]
    columns = passes.column_gradients(batch, options.terms, classes, found, posteriors)
    values = passes.weighted(batch, batch.unpack(columns), weights)
    gradients.add_columns(batch, projection, values)
    if factor is not None:
        gradients.divide(factor)
    return passes.utterance_losses(batch, ctc, found.regulariser, options)


def _project(
    engine: Engine,
    batch: Batch,
    projection: Projection,
    options: Options,
    row_weights: Tensor | None,
    gradients: Gradients | None,
) -> RowStatistics:
    """Compute logits chunk by chunk, their statistics and, with (N,) weights, their gradients."""
    terms, weight = options.terms, projection.weight
    found = _statistics(batch, weight, options)
    limit = passes.logit_rows(options, weight.shape[0], weight)
    buffer = weight.new_empty(0)
    for chunk in batch.chunks(limit):
        if buffer.shape[0] == 0:
            buffer = weight.new_empty((chunk.rows, weight.shape[0]))
        rows = chunk.take(projection.frames)
        logits = projection.logits(rows, buffer[: chunk.rows])
        part = engine.rows(
            logits,
            batch.columns,
            chunk.of(batch.utterances),
            None if row_weights is None else chunk.of(row_weights),
            terms,
            out=None if row_weights is None else logits,
        )
        for values, out in zip(part, found, strict=True):
            if out.shape[0]:
                chunk.store(values, out)
        if gradients is not None:
            gradients.add_rows(chunk, rows, logits, weight)
    return found


def _statistics(batch: Batch, weight: Tensor, options: Options) -> RowStatistics:
    """Return room for the statistics of all rows."""
    dtype = accumulation_dtype(weight.dtype)
    terms, rows = options.terms, batch.rows

    def room(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=weight.device)

    return RowStatistics(
        emissions=room(rows, batch.columns.shape[1]),
        regulariser=room(rows if terms.regularised else 0),
        entropy=room(rows if terms.entropy_bonus else 0),
    )
