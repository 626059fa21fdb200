"""What both drivers do around an engine: weights of utterances, their losses, sparse gradients."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.ctc.batch import Batch
from kernels.ctc.engine import Engine, Terms
from kernels.ctc.options import Options

CHUNK_BYTES: Final = {"cpu": 8 << 20}
CHUNK_BYTES_ELSEWHERE: Final = 128 << 20
"""Bytes of a chunk of logits: on CPU what stays near the caches, on a GPU what fills it."""


def rows_per_chunk(options: Options, classes: int, logits: Tensor) -> int:
    """Return the number of rows whose (V,) float32 values fill the byte budget."""
    default = CHUNK_BYTES.get(logits.device.type, CHUNK_BYTES_ELSEWHERE)
    itemsize = max(4, logits.dtype.itemsize)
    return max(1, (options.chunk_bytes or default) // (classes * itemsize))


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of losses and emissions for logits of a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def reduction_scale(batch: Batch, reduction: str, dtype: torch.dtype) -> Tensor:
    """Return (B,) what a reduction multiplies the losses by before it adds them up."""
    count = batch.shape[0]
    lengths = batch.target_lengths
    if reduction == "mean":
        return 1.0 / (count * lengths.clamp(min=1).to(dtype))
    if reduction == "mean_volume":
        return (1.0 / lengths.sum().clamp(min=1).to(dtype)).expand(count).clone()
    value = 1.0 / count if reduction == "mean_batch" else 1.0
    return torch.full((count,), value, dtype=dtype, device=lengths.device)


def gradient_weights(batch: Batch, scale: Tensor, options: Options) -> Tensor:
    """Return (B,) the weight of each utterance's gradient, which no lattice is needed for.

    An utterance without an alignment has no gradient: NaN, or 0 with ``zero_infinity``. Where the
    loss is multiplied by 0 the gradient is 0 in any case, so that a caller can mask such losses.
    """
    nothing = torch.where(scale == 0, scale, torch.nan)
    impossible = torch.zeros_like(scale) if options.zero_infinity else nothing
    return torch.where(batch.broken, nothing, torch.where(batch.feasible, scale, impossible))


def align(
    engine: Engine, batch: Batch, emissions: Tensor, *, posteriors: bool
) -> tuple[Tensor, Tensor | None]:
    """Return (B,) CTC losses and (N, S) posteriors; see :meth:`Engine.lattice`."""
    if batch.rows == 0:
        losses = torch.where(batch.target_lengths == 0, 0.0, torch.inf).to(emissions.dtype)
        return losses, torch.zeros_like(emissions) if posteriors else None
    return engine.lattice(
        emissions,
        batch.first_rows,
        batch.targets,
        batch.input_lengths,
        batch.target_lengths,
        posteriors=posteriors,
        max_frames=batch.max_frames,
    )


def utterance_losses(batch: Batch, ctc: Tensor, regulariser: Tensor, options: Options) -> Tensor:
    """Return (B,) losses from those of CTC and the other terms of the rows."""
    terms = options.terms
    losses = ctc * (1.0 - terms.label_smoothing)
    if terms.regularised:
        losses = losses + batch.unpack(regulariser).sum(dim=1)
    if options.zero_infinity:
        losses = torch.where(ctc.isposinf(), 0.0, losses)
    return torch.where(batch.broken, torch.nan, losses)


def column_gradients(
    batch: Batch,
    terms: Terms,
    classes: int,
    emissions: Tensor,
    posteriors: Tensor,
    entropy: Tensor,
) -> Tensor:
    """Return (N, S) the gradient with respect to the logits of each row's columns.

    It is that of the whole loss, by the equations that :meth:`Engine.rows` follows in the other
    columns; of columns with the same label all but the first have 0.
    """
    probabilities = emissions.exp()
    values = probabilities - posteriors * (1.0 - terms.label_smoothing)
    if terms.label_smoothing:
        values -= terms.label_smoothing / classes
    if terms.entropy_bonus:
        surprise = torch.where(probabilities == 0, 0.0, probabilities * emissions)
        values += terms.entropy_bonus * (surprise + probabilities * entropy.unsqueeze(1))
    if terms.consistency:
        values += terms.consistency * (probabilities - probabilities.roll(batch.rows // 2, dims=0))
    positions = torch.arange(batch.slots.shape[1], device=batch.slots.device)
    distinct = batch.slots == positions
    return torch.where(distinct[batch.utterances], values, 0.0)


def weighted(batch: Batch, columns: Tensor, weights: Tensor) -> Tensor:
    """Return (N, S) column gradients times the (B,) weights; 0 beats what is not finite."""
    rows = batch.live(weights).unsqueeze(1)
    return torch.where(rows == 0, 0.0, columns * rows)
