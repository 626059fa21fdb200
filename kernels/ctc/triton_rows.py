"""Triton kernel: one pass over rows of logits."""

# Constants of a kernel are in capitals; its language has no (*tuple, item) and takes branches apart
# at compile time only where they are statements.
# ruff: noqa: N803, RUF005, SIM108
# mypy: disable-error-code="untyped-decorator,assignment,misc"

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.ctc.engine import RowStatistics, Terms
from kernels.ctc.triton_columns import COLUMNS, clear, gather, logits_of
from kernels.ctc.triton_math import exp, is_fast
from kernels.dtypes import accumulation_dtype

RESIDENT_BYTES: Final = 128 << 10
"""What a program holds of its row in registers, half of a multiprocessor's: 32,768 in float32."""
STREAMED_BYTES: Final = 32 << 10
"""What it takes at once of a longer row."""
THREAD_BYTES: Final = 128
"""What a thread has of that: enough loads under way for the latency of memory, in 64 registers."""

# They change from batch to batch, which must not compile kernels anew; nor must the coefficients,
# which may follow a schedule, or where the first element of a row of few lies.
VARYING = ["width", "height", "blank", "smoothing", "bonus", "penalty", "consistency"]
SCALARS = ["columns", "utterances", "weights", "emissions", "regularisers", "entropies"]


@triton.jit
def _real(bits: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """Return the float64 of these bits: an argument that is a float arrives as float32."""
    return bits.to(tl.int64).to(tl.float64, bitcast=True).to(dtype)


@triton.jit
def _times_log(p: tl.tensor, log_ratio: tl.tensor) -> tl.tensor:
    """Return p times a logarithm, 0 where p is."""
    return tl.where(p == 0.0, 0.0, p * log_ratio)


@triton.jit
def _normalizer(
    z: tl.tensor,
    row: tl.tensor,
    blank: tl.tuple,
    CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
    RESIDENT: tl.constexpr,
    PENALTY: tl.constexpr,
    FAST: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Return the maximum of a row, and the logarithm of its sum of exponentials less that.

    Added up, they would round away what tells close logits apart.
    """
    if RESIDENT:
        peak = tl.max(z, 0)
        total = tl.sum(exp(z - peak, FAST), 0)
    else:
        peak = tl.full((), -3e38, blank[1].dtype)
        total = tl.zeros((), blank[1].dtype)
        begin = 0
        while begin < CLASSES:
            column = begin + tl.arange(0, BLOCK)
            part = logits_of(row, column, column < CLASSES, blank, PENALTY)
            higher = tl.maximum(peak, tl.max(part, 0))
            total = total * exp(peak - higher, FAST) + tl.sum(exp(part - higher, FAST), 0)
            peak = higher
            begin += BLOCK
    return peak, tl.log(total)


@triton.jit
def _regularise(
    z: tl.tuple,
    rows: tl.tuple,
    norms: tl.tuple,
    blank: tl.tuple,
    coefficients: tl.tuple,
    VIEWS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
    RESIDENT: tl.constexpr,
    SMOOTHING: tl.constexpr,
    BONUS: tl.constexpr,
    PENALTY: tl.constexpr,
    FAST: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Return the terms of a row's loss beside CTC, and its entropy; pairs are own and other."""
    smoothing, bonus, consistency = coefficients
    logs = tl.zeros((), smoothing.dtype)
    entropy = tl.zeros((), smoothing.dtype)
    divergence = tl.zeros((), smoothing.dtype)
    begin = 0
    while begin < CLASSES:
        column = begin + tl.arange(0, BLOCK)
        inside = column < CLASSES
        if RESIDENT:
            own = z[0]
        else:
            own = logits_of(rows[0], column, inside, blank, PENALTY)
        log_p = own - norms[0][0] - norms[0][1]
        if SMOOTHING:
            logs += tl.sum(tl.where(inside, log_p, 0.0), 0)
        if BONUS:
            entropy -= tl.sum(_times_log(exp(log_p, FAST), log_p), 0)
        if VIEWS == 2:
            if RESIDENT:
                other = z[1]
            else:
                other = logits_of(rows[1], column, inside, blank, PENALTY)
            log_q = other - norms[1][0] - norms[1][1]
            divergence += tl.sum(_times_log(exp(log_q, FAST), log_q - log_p), 0)
        begin += BLOCK
    return consistency * divergence - bonus * entropy - smoothing * (logs / CLASSES), entropy


@triton.jit
def _slope(
    log_p: tl.tensor,
    log_q: tl.tensor,
    entropy: tl.tensor,
    weight: tl.tensor,
    coefficients: tl.tuple,
    VIEWS: tl.constexpr,
    CLASSES: tl.constexpr,
    SMOOTHING: tl.constexpr,
    BONUS: tl.constexpr,
    FAST: tl.constexpr,
) -> tl.tensor:
    """Return the gradient of classes that are not the utterance's."""
    smoothing, bonus, consistency = coefficients
    p = exp(log_p, FAST)
    slope = p
    if BONUS:
        slope += bonus * (_times_log(p, log_p) + p * entropy)
    if SMOOTHING:
        slope -= smoothing / CLASSES
    if VIEWS == 2:
        slope += consistency * (p - exp(log_q, FAST))
    # A weight of 0 beats what is not finite.
    return tl.where(weight == 0.0, 0.0, slope * weight)


@triton.jit
def _write_gradient(
    z: tl.tuple,
    rows: tl.tuple,
    norms: tl.tuple,
    entropies: tl.tuple,
    weights: tl.tuple,
    out: tl.tuple,
    blank: tl.tuple,
    coefficients: tl.tuple,
    VIEWS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
    RESIDENT: tl.constexpr,
    SMOOTHING: tl.constexpr,
    BONUS: tl.constexpr,
    PENALTY: tl.constexpr,
    FAST: tl.constexpr,
) -> None:
    """Write the gradient of a row, or of both views, over which it may be."""
    begin = 0
    while begin < CLASSES:
        column = begin + tl.arange(0, BLOCK)
        inside = column < CLASSES
        logs = ()
        for v in tl.static_range(VIEWS):
            if RESIDENT:
                own = z[v]
            else:
                own = logits_of(rows[v], column, inside, blank, PENALTY)
            logs = logs + (own - norms[v][0] - norms[v][1],)
        for v in tl.static_range(VIEWS):
            slope = _slope(
                logs[v], logs[VIEWS - 1 - v], entropies[v], weights[v], coefficients,
                VIEWS, CLASSES, SMOOTHING, BONUS, FAST,
            )  # fmt: skip
            tl.store(out[v] + column, slope.to(out[v].dtype.element_ty), mask=inside)
        begin += BLOCK


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=SCALARS)
def measure(
    logits: tl.tensor,
    out: tl.tensor,
    columns: tl.tensor,
    utterances: tl.tensor,
    weights: tl.tensor,
    emissions: tl.tensor,
    regularisers: tl.tensor,
    entropies: tl.tensor,
    width: tl.tensor,
    height: tl.tensor,
    blank: tl.tensor,
    smoothing: tl.tensor,
    bonus: tl.tensor,
    penalty: tl.tensor,
    consistency: tl.tensor,
    VIEWS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    RESIDENT: tl.constexpr,
    SMOOTHING: tl.constexpr,
    BONUS: tl.constexpr,
    PENALTY: tl.constexpr,
    GRADIENT: tl.constexpr,
    FAST: tl.constexpr,
) -> None:
    """Read one row, or the two views of a frame, and write what :meth:`Engine.rows` promises.

    With p the softmax of a row, l its logarithm, H its entropy and q the other view's softmax, the
    gradient of a column that is not the utterance's is, times the row's weight::

        p + bonus * p (l + H) - smoothing / CLASSES + consistency * (p - q)

    Args:
        logits: (height * VIEWS, CLASSES).
        out: the same, may be ``logits``; with GRADIENT.
        columns: (B, width).
        utterances: (height * VIEWS,).
        weights: (height * VIEWS,); with GRADIENT.
        emissions: (height * VIEWS, width).
        regularisers: (height * VIEWS,); with a term beside CTC.
        entropies: (height * VIEWS,); with BONUS.
        width: of the columns.
        height: rows of a view, one a program.
        blank: class that the penalty is taken from.
        smoothing: bits of the float64, as the next three; see :class:`Terms`.
        bonus: of the entropy.
        penalty: of the blank.
        consistency: of two views.
        VIEWS: 2 with consistency, else 1.
        CLASSES: of a row.
        BLOCK: those that are handled at once.
        COLUMNS: columns that are.
        RESIDENT: whether BLOCK holds a row, which then is read once.
        SMOOTHING: whether there is such a term.
        BONUS: whether there is.
        PENALTY: whether there is.
        GRADIENT: whether to write ``out``.
        FAST: see :func:`kernels.ctc.triton_math.exp`.
    """
    dtype: tl.constexpr = emissions.dtype.element_ty
    coefficients = (_real(smoothing, dtype), _real(bonus, dtype), _real(consistency, dtype))
    blank_penalty = (blank, _real(penalty, dtype))
    first = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    z = ()
    rows = ()
    norms = ()
    for v in tl.static_range(VIEWS):
        row = first + v * height
        rows = rows + (logits + row * CLASSES,)
        scores = 0.0
        if RESIDENT:
            scores = logits_of(rows[v], column, column < CLASSES, blank_penalty, PENALTY)
        z = z + (scores,)
        norms = norms + (
            _normalizer(scores, rows[v], blank_penalty, CLASSES, BLOCK, RESIDENT, PENALTY, FAST),
        )
        own = columns + tl.load(utterances + row) * width
        gather(
            rows[v], own, emissions + row * width, width, blank_penalty, norms[v],
            CLASSES, COLUMNS, PENALTY,
        )  # fmt: skip
    found = ()
    for v in tl.static_range(VIEWS):
        entropy = tl.zeros((), dtype)
        if SMOOTHING or BONUS or VIEWS == 2:
            loss, entropy = _regularise(
                (z[v], z[VIEWS - 1 - v]),
                (rows[v], rows[VIEWS - 1 - v]),
                (norms[v], norms[VIEWS - 1 - v]),
                blank_penalty, coefficients,
                VIEWS, CLASSES, BLOCK, RESIDENT, SMOOTHING, BONUS, PENALTY, FAST,
            )  # fmt: skip
            tl.store(regularisers + first + v * height, loss)
        if BONUS:
            tl.store(entropies + first + v * height, entropy)
        found = found + (entropy,)
    if GRADIENT:
        weight = ()
        target = ()
        for v in tl.static_range(VIEWS):
            weight = weight + (tl.load(weights + first + v * height),)
            target = target + (out + (first + v * height) * CLASSES,)
        # All columns of a row have been read, whichever thread overwrites them.
        tl.debug_barrier()
        _write_gradient(
            z, rows, norms, found, weight, target, blank_penalty, coefficients,
            VIEWS, CLASSES, BLOCK, RESIDENT, SMOOTHING, BONUS, PENALTY, FAST,
        )  # fmt: skip
        tl.debug_barrier()
        for v in tl.static_range(VIEWS):
            own = columns + tl.load(utterances + first + v * height) * width
            clear(target[v], own, width, CLASSES, COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How programs take their rows; see :func:`launch_for`."""

    block: int
    warps: int
    resident: bool


def launch_for(classes: int, itemsize: int, terms: Terms) -> Launch:
    """Return how programs take rows of float32 (``itemsize`` 4) or float64 (8) logits.

    Terms beside CTC need registers for more than the row.
    """
    each = itemsize * (2 if terms.consistency else 1)
    block = max(32, triton.next_power_of_2(classes))
    resident = block * each <= RESIDENT_BYTES // (2 if terms.regularised else 1)
    if not resident:
        block = STREAMED_BYTES // each
    most = 32 if torch.version.hip is None else 16  # of 64 threads
    warps = min(max(1, block * each // (32 * THREAD_BYTES)), most)
    return Launch(block=block, warps=warps, resident=resident)


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
    dtype = accumulation_dtype(logits.dtype)
    emissions = logits.new_empty((rows, width), dtype=dtype)
    regulariser = logits.new_empty(rows if terms.regularised else 0, dtype=dtype)
    entropy = logits.new_empty(rows if terms.entropy_bonus else 0, dtype=dtype)
    views = 2 if terms.consistency else 1
    launch = launch_for(classes, dtype.itemsize, terms)
    if rows:
        measure[(rows // views,)](
            logits,
            logits if out is None else out,
            columns.contiguous(),
            utterances.contiguous(),
            emissions if weights is None else weights.contiguous(),
            emissions,
            regulariser,
            entropy,
            width,
            rows // views,
            terms.blank,
            _bits(terms.label_smoothing),
            _bits(terms.entropy_bonus),
            _bits(terms.blank_penalty),
            _bits(terms.consistency),
            VIEWS=views,
            CLASSES=classes,
            BLOCK=launch.block,
            COLUMNS=COLUMNS,
            RESIDENT=launch.resident,
            SMOOTHING=terms.label_smoothing != 0,
            BONUS=terms.entropy_bonus != 0,
            PENALTY=terms.blank_penalty != 0,
            GRADIENT=weights is not None and out is not None,
            FAST=is_fast(dtype),
            num_warps=launch.warps,
            enable_fp_fusion=True,
        )
    return RowStatistics(emissions, regulariser, entropy)


def _bits(value: float) -> int:
    """Return a float64 as the integer of the same bits."""
    return int(struct.unpack("q", struct.pack("d", value))[0])
