"""Triton kernels: one pass over rows of logits, and the columns that the lattice adds to them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.ctc.engine import RowStatistics, Terms

RESIDENT_BYTES: Final = 128 << 10
"""What a program holds of its row in registers, half of a multiprocessor's: 32,768 in float32."""
STREAMED_BYTES: Final = 32 << 10
"""What it takes at once of a longer row."""
COLUMNS: Final = 128
"""Columns of an utterance that a program takes at once."""

# They change from batch to batch, which must not compile kernels anew; nor must the coefficients,
# which may follow a schedule, or where one element a row starts.
VARYING = ["width", "height", "blank", "smoothing", "bonus", "penalty", "consistency"]
SCALARS = ["columns", "utterances", "weights", "emissions", "regularisers", "entropies", "values"]


@triton.jit  # type: ignore[untyped-decorator]
def _real(bits: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """Return the float64 that an argument holds the bits of: as a float it would be float32."""
    return bits.to(tl.int64).to(tl.float64, bitcast=True).to(dtype)


@triton.jit  # type: ignore[untyped-decorator]
def _scores(
    at: tl.tensor,
    column: tl.tensor,
    inside: tl.tensor,
    blank: tuple[tl.tensor, tl.tensor],
    PENALTY: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Load logits of a row, wide; what is not inside is -inf."""
    place, penalty = blank
    z = tl.load(at + column, mask=inside, other=float("-inf")).to(penalty.dtype)
    if PENALTY:
        z = tl.where(column == place, z - penalty, z)
    return z


@triton.jit  # type: ignore[untyped-decorator]
def _normalizer(
    z: tl.tensor,
    at: tl.tensor,
    classes: tl.tensor,
    blank: tuple[tl.tensor, tl.tensor],
    BLOCK: tl.constexpr,  # noqa: N803
    RESIDENT: tl.constexpr,  # noqa: N803
    PENALTY: tl.constexpr,  # noqa: N803
) -> tuple[tl.tensor, tl.tensor]:
    """Return the maximum of a row and the logarithm of its sum of exponentials less that.

    Their sum would round away what tells close logits apart.
    """
    dtype: tl.constexpr = blank[1].dtype
    if RESIDENT:
        peak = tl.max(z, 0)
        total = tl.sum(tl.exp(z - peak), 0)
    else:
        peak = tl.full((), -3e38, dtype)
        total = tl.zeros((), dtype)
        begin = classes * 0
        while begin < classes:
            column = begin + tl.arange(0, BLOCK)
            z = _scores(at, column, column < classes, blank, PENALTY)
            higher = tl.maximum(peak, tl.max(z, 0))
            total = total * tl.exp(peak - higher) + tl.sum(tl.exp(z - higher), 0)
            peak = higher
            begin += BLOCK
    return peak, tl.log(total)


@triton.jit  # type: ignore[untyped-decorator]
def _times_log(p: tl.tensor, log_ratio: tl.tensor) -> tl.tensor:
    """Return p times a logarithm, 0 where p is."""
    return tl.where(p == 0.0, 0.0, p * log_ratio)


@triton.jit  # type: ignore[untyped-decorator]
def _gather(
    at: tl.tensor,
    columns: tl.tensor,
    emissions: tl.tensor,
    classes: tl.tensor,
    width: tl.tensor,
    blank: tuple[tl.tensor, tl.tensor],
    norm: tuple[tl.tensor, tl.tensor],
    COLUMNS: tl.constexpr,  # noqa: N803
    PENALTY: tl.constexpr,  # noqa: N803
) -> None:
    """Write the log-probabilities of a row's columns."""
    begin = width * 0
    while begin < width:
        place = begin + tl.arange(0, COLUMNS)
        column = tl.load(columns + place, mask=place < width, other=-1)
        z = _scores(at, column, (column >= 0) & (column < classes), blank, PENALTY)
        tl.store(emissions + place, z - norm[0] - norm[1], mask=place < width)
        begin += COLUMNS


@triton.jit  # type: ignore[untyped-decorator]
def _clear(
    out: tl.tensor,
    columns: tl.tensor,
    classes: tl.tensor,
    width: tl.tensor,
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """Write 0 to a row's columns."""
    begin = width * 0
    while begin < width:
        place = begin + tl.arange(0, COLUMNS)
        column = tl.load(columns + place, mask=place < width, other=-1)
        zero = tl.zeros((COLUMNS,), out.dtype.element_ty)
        tl.store(out + column, zero, mask=(column >= 0) & (column < classes))
        begin += COLUMNS


@triton.jit  # type: ignore[untyped-decorator]
def _regularise(
    z: tuple[tl.tensor, tl.tensor],
    at: tuple[tl.tensor, tl.tensor],
    norm: tuple[tl.tensor, tl.tensor],
    other_norm: tuple[tl.tensor, tl.tensor],
    classes: tl.tensor,
    blank: tuple[tl.tensor, tl.tensor],
    coefficients: tuple[tl.tensor, tl.tensor, tl.tensor],
    VIEWS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    RESIDENT: tl.constexpr,  # noqa: N803
    SMOOTHING: tl.constexpr,  # noqa: N803
    BONUS: tl.constexpr,  # noqa: N803
    PENALTY: tl.constexpr,  # noqa: N803
) -> tuple[tl.tensor, tl.tensor]:
    """Return the terms of a row's loss beside CTC, and its entropy; pairs are own and other."""
    smoothing, bonus, consistency = coefficients
    logs = tl.zeros((), smoothing.dtype)
    entropy = tl.zeros((), smoothing.dtype)
    divergence = tl.zeros((), smoothing.dtype)
    begin = classes * 0
    while begin < classes:
        column = begin + tl.arange(0, BLOCK)
        inside = column < classes
        if RESIDENT:
            own = z[0]
        else:
            own = _scores(at[0], column, inside, blank, PENALTY)
        log_p = own - norm[0] - norm[1]
        if SMOOTHING:
            logs += tl.sum(tl.where(inside, log_p, 0.0), 0)
        if BONUS:
            entropy -= tl.sum(_times_log(tl.exp(log_p), log_p), 0)
        if VIEWS == 2:
            if RESIDENT:
                other = z[1]
            else:
                other = _scores(at[1], column, inside, blank, PENALTY)
            log_q = other - other_norm[0] - other_norm[1]
            divergence += tl.sum(_times_log(tl.exp(log_q), log_q - log_p), 0)
        begin += BLOCK
    return consistency * divergence - bonus * entropy - smoothing * (logs / classes), entropy


@triton.jit  # type: ignore[untyped-decorator]
def _slope(
    log_p: tl.tensor,
    log_q: tl.tensor,
    entropy: tl.tensor,
    weight: tl.tensor,
    classes: tl.tensor,
    coefficients: tuple[tl.tensor, tl.tensor, tl.tensor],
    VIEWS: tl.constexpr,  # noqa: N803
    SMOOTHING: tl.constexpr,  # noqa: N803
    BONUS: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Return the gradient of classes that are not the utterance's."""
    smoothing, bonus, consistency = coefficients
    p = tl.exp(log_p)
    slope = p
    if BONUS:
        slope += bonus * (_times_log(p, log_p) + p * entropy)
    if SMOOTHING:
        slope -= smoothing / classes
    if VIEWS == 2:
        slope += consistency * (p - tl.exp(log_q))
    # A weight of 0 beats what is not finite.
    return tl.where(weight == 0.0, 0.0, slope * weight)


@triton.jit  # type: ignore[untyped-decorator]
def _write_gradient(
    z: tuple[tl.tensor, ...],
    at: tuple[tl.tensor, ...],
    norm: tuple[tuple[tl.tensor, tl.tensor], ...],
    entropy: tuple[tl.tensor, ...],
    weight: tuple[tl.tensor, ...],
    out: tuple[tl.tensor, ...],
    classes: tl.tensor,
    blank: tuple[tl.tensor, tl.tensor],
    coefficients: tuple[tl.tensor, tl.tensor, tl.tensor],
    VIEWS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    RESIDENT: tl.constexpr,  # noqa: N803
    SMOOTHING: tl.constexpr,  # noqa: N803
    BONUS: tl.constexpr,  # noqa: N803
    PENALTY: tl.constexpr,  # noqa: N803
) -> None:
    """Write the gradient of a row, or of both views, over which it may be."""
    begin = classes * 0
    while begin < classes:
        column = begin + tl.arange(0, BLOCK)
        inside = column < classes
        logs = ()
        for v in tl.static_range(VIEWS):
            if RESIDENT:
                own = z[v]
            else:
                own = _scores(at[v], column, inside, blank, PENALTY)
            logs = logs + (own - norm[v][0] - norm[v][1],)
        for v in tl.static_range(VIEWS):
            slope = _slope(
                logs[v], logs[VIEWS - 1 - v], entropy[v], weight[v], classes, coefficients,
                VIEWS, SMOOTHING, BONUS,
            )  # fmt: skip
            tl.store(out[v] + column, slope.to(out[v].dtype.element_ty), mask=inside)
        begin += BLOCK


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=VARYING, do_not_specialize_on_alignment=SCALARS
)
def measure(
    logits: tl.tensor,
    out: tl.tensor,
    columns: tl.tensor,
    utterances: tl.tensor,
    weights: tl.tensor,
    emissions: tl.tensor,
    regularisers: tl.tensor,
    entropies: tl.tensor,
    classes: tl.tensor,
    width: tl.tensor,
    height: tl.tensor,
    blank: tl.tensor,
    smoothing: tl.tensor,
    bonus: tl.tensor,
    penalty: tl.tensor,
    consistency: tl.tensor,
    VIEWS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    RESIDENT: tl.constexpr,  # noqa: N803
    SMOOTHING: tl.constexpr,  # noqa: N803
    BONUS: tl.constexpr,  # noqa: N803
    PENALTY: tl.constexpr,  # noqa: N803
    GRADIENT: tl.constexpr,  # noqa: N803
) -> None:
    """Read one row, or the two views of a frame, and write what :meth:`Engine.rows` promises.

    With p the softmax of a row, l its logarithm, H its entropy and q the other view's softmax, the
    gradient of a column that is not the utterance's is, times the row's weight::

        p + bonus * p (l + H) - smoothing / classes + consistency * (p - q)

    Args:
        logits: (height * VIEWS, classes).
        out: the same, may be ``logits``; with GRADIENT.
        columns: (B, width).
        utterances: (height * VIEWS,).
        weights: (height * VIEWS,); with GRADIENT.
        emissions: (height * VIEWS, width).
        regularisers: (height * VIEWS,); with a term beside CTC.
        entropies: (height * VIEWS,); with BONUS.
        classes: of a row.
        width: of the columns.
        height: rows of a view, one a program.
        blank: class that the penalty is taken from.
        smoothing: bits of the float64, as the next three; see :class:`Terms`.
        bonus: of the entropy.
        penalty: of the blank.
        consistency: of two views.
        VIEWS: 2 with consistency, else 1.
        BLOCK: classes that are handled at once.
        COLUMNS: columns that are.
        RESIDENT: whether BLOCK holds a row, which then is read once.
        SMOOTHING: whether there is such a term.
        BONUS: whether there is.
        PENALTY: whether there is.
        GRADIENT: whether to write ``out``.
    """
    dtype: tl.constexpr = emissions.dtype.element_ty
    coefficients = (_real(smoothing, dtype), _real(bonus, dtype), _real(consistency, dtype))
    blank_penalty = (blank, _real(penalty, dtype))
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    z = ()
    at = ()
    norm = ()
    own = ()
    for v in tl.static_range(VIEWS):
        at = at + (logits + (row + v * height) * classes,)
        own = own + (columns + tl.load(utterances + row + v * height) * width,)
        scores = 0.0
        if RESIDENT:
            scores = _scores(at[v], column, column < classes, blank_penalty, PENALTY)
        z = z + (scores,)
        norm = norm + (
            _normalizer(scores, at[v], classes, blank_penalty, BLOCK, RESIDENT, PENALTY),
        )
        _gather(
            at[v], own[v], emissions + (row + v * height) * width, classes, width, blank_penalty,
            norm[v], COLUMNS, PENALTY,
        )  # fmt: skip
    entropy = ()
    for v in tl.static_range(VIEWS):
        o: tl.constexpr = VIEWS - 1 - v
        found = tl.zeros((), dtype)
        if SMOOTHING or BONUS or VIEWS == 2:
            loss, found = _regularise(
                (z[v], z[o]), (at[v], at[o]), norm[v], norm[o], classes, blank_penalty,
                coefficients, VIEWS, BLOCK, RESIDENT, SMOOTHING, BONUS, PENALTY,
            )  # fmt: skip
            tl.store(regularisers + row + v * height, loss)
        if BONUS:
            tl.store(entropies + row + v * height, found)
        entropy = entropy + (found,)
    if GRADIENT:
        weight = ()
        to = ()
        for v in tl.static_range(VIEWS):
            weight = weight + (tl.load(weights + row + v * height),)
            to = to + (out + (row + v * height) * classes,)
        # All columns of a row are read by now, whichever thread overwrites them.
        tl.debug_barrier()
        _write_gradient(
            z, at, norm, entropy, weight, to, classes, blank_penalty, coefficients,
            VIEWS, BLOCK, RESIDENT, SMOOTHING, BONUS, PENALTY,
        )  # fmt: skip
        tl.debug_barrier()
        for v in tl.static_range(VIEWS):
            _clear(to[v], own[v], classes, width, COLUMNS)


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=VARYING, do_not_specialize_on_alignment=SCALARS
)
def put(
    grad: tl.tensor,
    columns: tl.tensor,
    utterances: tl.tensor,
    values: tl.tensor,
    classes: tl.tensor,
    width: tl.tensor,
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """Write those of a row's values that are not 0 to its columns, which are 0."""
    row = tl.program_id(0).to(tl.int64)
    columns += tl.load(utterances + row) * width
    begin = width * 0
    while begin < width:
        place = begin + tl.arange(0, COLUMNS)
        column = tl.load(columns + place, mask=place < width, other=-1)
        value = tl.load(values + row * width + place, mask=place < width, other=0.0)
        known = (column >= 0) & (column < classes) & (value != 0.0)
        tl.store(grad + row * classes + column, value.to(grad.dtype.element_ty), mask=known)
        begin += COLUMNS


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a program takes a row; see :func:`launch_for`."""

    block: int
    warps: int
    resident: bool


def launch_for(classes: int, itemsize: int, views: int) -> Launch:
    """Return how programs take rows of float32 (``itemsize`` 4) or float64 (8) logits.

    A thread has 32 float32 values of its row: enough loads under way for the memory's latency,
    few enough registers for 2048 threads of a multiprocessor at 64 of 128.
    """
    room = RESIDENT_BYTES // (itemsize * views)
    block = max(32, triton.next_power_of_2(classes))
    resident = block <= room
    if not resident:
        block = STREAMED_BYTES // (itemsize * views)
    warps = block * itemsize * views // (32 * 32 * 4)
    return Launch(block=block, warps=min(max(warps, 1), 32), resident=resident)


def measure_rows(
    logits: Tensor,
    columns: Tensor,
    utterances: Tensor,
    weights: Tensor | None,
    terms: Terms,
    out: Tensor | None,
) -> RowStatistics:
    """Launch :func:`measure`; see :meth:`kernels.ctc.engine.Engine.rows`."""
    rows, classes = logits.shape
    width = columns.shape[1]
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    emissions = logits.new_empty((rows, width), dtype=dtype)
    regulariser = logits.new_empty(rows if terms.regularised else 0, dtype=dtype)
    entropy = logits.new_empty(rows if terms.entropy_bonus else 0, dtype=dtype)
    views = 2 if terms.consistency else 1
    gradient = weights is not None and out is not None
    launch = launch_for(classes, dtype.itemsize, views)
    if rows:
        measure[(rows // views,)](
            logits,
            out if gradient else logits,
            columns.contiguous(),
            utterances.contiguous(),
            weights.contiguous() if weights is not None and gradient else emissions,
            emissions,
            regulariser,
            entropy,
            classes,
            width,
            rows // views,
            terms.blank,
            _bits(terms.label_smoothing),
            _bits(terms.entropy_bonus),
            _bits(terms.blank_penalty),
            _bits(terms.consistency),
            VIEWS=views,
            BLOCK=launch.block,
            COLUMNS=COLUMNS,
            RESIDENT=launch.resident,
            SMOOTHING=terms.label_smoothing != 0,
            BONUS=terms.entropy_bonus != 0,
            PENALTY=terms.blank_penalty != 0,
            GRADIENT=gradient,
            num_warps=launch.warps,
            enable_fp_fusion=True,
        )
    return RowStatistics(emissions, regulariser, entropy)


def put_columns(grad: Tensor, columns: Tensor, utterances: Tensor, values: Tensor) -> None:
    """Launch :func:`put`; see :meth:`kernels.ctc.engine.Engine.add_columns`."""
    if grad.shape[0]:
        put[(grad.shape[0],)](
            grad,
            columns.contiguous(),
            utterances.contiguous(),
            values.contiguous(),
            grad.shape[1],
            columns.shape[1],
            COLUMNS=COLUMNS,
            num_warps=1,
            enable_fp_fusion=True,
        )


def _bits(value: float) -> int:
    """Return a float64 as the integer of the same bits."""
    return int(struct.unpack("q", struct.pack("d", value))[0])
