"""What both drivers do around an engine: weights of utterances, their losses, sparse gradients."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.chunks import rows_per_chunk
from kernels.ctc.batch import Batch
from kernels.ctc.engine import Engine, RowStatistics, Terms
from kernels.ctc.options import Options

CPU_BYTES: Final = 16 << 20
"""Bytes of a chunk of logits on CPU: fewer would do, but each chunk wakes the threads several
times, which is slow where they have to share cores."""

LEAST_ROWS: Final = 512
"""Rows of a chunk on a GPU, whatever the vocabulary: every chunk reads the weight and adds to its
gradient, which takes longer than the products if there are few."""


def logit_rows(options: Options, classes: int, logits: Tensor) -> int:
    """Return the number of rows whose (V,) float32 values fill the byte budget."""
    return rows_per_chunk(
        classes * max(4, logits.dtype.itemsize),
        logits.device,
        options.chunk_bytes,
        cpu_bytes=CPU_BYTES,
        least=1 if logits.device.type == "cpu" else LEAST_ROWS,
    )


def reduction_scale(batch: Batch, reduction: str, dtype: torch.dtype) -> Tensor:
    """Return (B,) what a reduction multiplies the losses by before it adds them up."""
    count = batch.shape[0]
    lengths = batch.target_lengths
    if reduction == "mean":
        return (lengths.clamp(min=1) * count).to(dtype).reciprocal_()
    if reduction == "mean_volume":
        return lengths.sum().clamp_(min=1).to(dtype).reciprocal_().repeat(count)
    value = 1.0 / count if reduction == "mean_batch" else 1.0
    return torch.full((count,), value, dtype=dtype, device=lengths.device)


def gradient_weights(batch: Batch, scale: Tensor, options: Options) -> Tensor:
    """Return (B,) the weight of each utterance's gradient, which no lattice is needed for.

    An utterance without an alignment has no gradient: NaN, or 0 with ``zero_infinity``. Where the
    loss is multiplied by 0 the gradient is 0 in any case, so that a caller can mask such losses.
    """
    impossible = 0.0 if options.zero_infinity else torch.nan
    weights = torch.where(batch.feasible, scale, impossible)
    weights = torch.where(batch.broken, torch.nan, weights)
    return torch.where(scale == 0, scale, weights)


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
    losses = ctc
    if terms.regularised:
        rows = batch.unpack(batch.without_padding(regulariser))
        losses = losses * (1.0 - terms.label_smoothing) + rows.sum(dim=1)
    if options.zero_infinity:
        losses = torch.where(ctc == torch.inf, 0.0, losses)
    return torch.where(batch.broken, torch.nan, losses)


def column_gradients(
    batch: Batch, terms: Terms, classes: int, found: RowStatistics, posteriors: Tensor
) -> Tensor:
    """Return (N, S) the gradient with respect to the logits of each row's columns.

    It is that of the whole loss, by the equations that :meth:`Engine.rows` follows in the other
    columns. Columns with the same label all have it but for the posterior, which the first has;
    :func:`weighted` keeps that one.
    """
    probabilities = found.emissions.exp()
    if terms.label_smoothing:
        posteriors = posteriors * (1.0 - terms.label_smoothing)
    values = probabilities - posteriors
    if terms.label_smoothing:
        values -= terms.label_smoothing / classes
    if terms.entropy_bonus:
        surprise = torch.where(probabilities == 0, 0.0, probabilities * found.emissions)
        mean = probabilities * found.entropy.unsqueeze(1)
        values += terms.entropy_bonus * (surprise + mean)
    if terms.consistency:
        values += terms.consistency * (probabilities - probabilities.roll(batch.rows // 2, dims=0))
    return values


def weighted(batch: Batch, columns: Tensor, weights: Tensor) -> Tensor:
    """Return (B, T, S) column gradients times weights, 0 in padding and repeated columns.

    Args:
        batch: of the call.
        columns: (B, T, S) from :func:`column_gradients`, unpacked.
        weights: (B,) of the utterances; 0 beats what is not finite.
    """
    factors = weights.unsqueeze(1).masked_fill(batch.repeated, 0.0)
    values = columns * factors.unsqueeze(1)
    clear_rows(values, weights)
    if batch.padding is not None:
        values.masked_fill_(batch.padding.view(*batch.shape, 1), 0.0)
    return values


def clear_rows(values: Tensor, weights: Tensor) -> None:
    """Make (n, ...) values whose (n,) weight is 0 exactly that, in place."""
    dead = weights == 0
    # On CPU the host can look whether there is one, elsewhere it would have to wait.
    if values.device.type != "cpu" or bool(dead.any()):
        values.masked_fill_(dead.view(-1, *(1 for _ in values.shape[1:])), 0.0)
