"""Triton: one step of CTC's recursions, for states spread over lanes.

Tuples have K blanks or labels of each lane; see :mod:`kernels.ctc.triton_lattice`.
"""

# Constants of a kernel are in capitals; its language has no (*tuple, item).
# ruff: noqa: N803, N806, RUF005
# mypy: disable-error-code="untyped-decorator,assignment,misc"

from __future__ import annotations

import triton
import triton.language as tl

from kernels.ctc.triton_math import LOG2_E, NEVER, POSSIBLE, log_add, possible_or_never


@triton.jit
def _forward(
    blank: tl.tuple,
    label: tl.tuple,
    y: tl.tuple,
    skip: tl.tuple,
    lane: tl.tensor,
    K: tl.constexpr,
    FAST: tl.constexpr,
) -> tuple[tl.tuple, tl.tuple]:
    """Return blanks and labels with a frame's emissions from those of the frame before."""
    log2_e = tl.full((), LOG2_E, y[0].dtype)
    edge = tl.gather(label[K - 1], tl.maximum(lane - 1, 0), 0)
    before = (tl.where(lane > 0, edge, NEVER),) + label
    blanks = ()
    labels = ()
    for j in tl.static_range(K):
        c = log_add(blank[j], before[j], FAST)
        blanks = blanks + (tl.fma(y[0], log2_e, c),)
        either = log_add(label[j], tl.where(skip[j], c, blank[j]), FAST)
        labels = labels + (tl.fma(y[j + 1], log2_e, either),)
    return blanks, labels


@triton.jit
def _backward(
    blank: tl.tuple,
    label: tl.tuple,
    y: tl.tuple,
    skip: tl.tuple,
    lane: tl.tensor,
    K: tl.constexpr,
    FAST: tl.constexpr,
) -> tuple[tl.tuple, tl.tuple]:
    """Return blanks and labels without emissions of the frame before from those of a frame."""
    LANES: tl.constexpr = lane.shape[0]
    log2_e = tl.full((), LOG2_E, y[0].dtype)
    blanks = ()
    stay = ()
    enter = ()
    for j in tl.static_range(K):
        b = tl.fma(y[0], log2_e, blank[j])
        stay = stay + (tl.fma(y[j + 1], log2_e, label[j]),)
        blanks = blanks + (log_add(b, stay[j], FAST),)
        enter = enter + (tl.where(skip[j], blanks[j], b),)
    edge = tl.gather(enter[0], tl.minimum(lane + 1, LANES - 1), 0)
    enter = enter + (tl.where(lane < LANES - 1, edge, NEVER),)
    labels = ()
    for j in tl.static_range(K):
        labels = labels + (log_add(stay[j], enter[j + 1], FAST),)
    return blanks, labels


@triton.jit
def load_emissions(
    row: tl.tensor,
    lane: tl.tensor,
    used: tl.tensor,
    K: tl.constexpr,
) -> tl.tuple:
    """Load a frame's log-probabilities of the blank and of each lane's labels."""
    y = (possible_or_never(tl.load(row)),)
    own = row + 1 + lane * K
    for j in tl.static_range(K):
        value = tl.load(own + j, mask=lane * K + j < used, other=NEVER)
        y = y + (possible_or_never(value),)
    return y


@triton.jit
def blank_emissions(like: tl.tensor, K: tl.constexpr) -> tl.tuple:
    """Return the emissions of a frame that is surely blank, which an end's states outlive."""
    y = (tl.zeros((), like.dtype),)
    for _ in tl.static_range(K):
        y = y + (tl.full(like.shape, NEVER, like.dtype),)
    return y


@triton.jit
def zero_states(like: tl.tensor, K: tl.constexpr) -> tl.tuple:
    """Return states to join that are 0."""
    states = ()
    for _ in tl.static_range(K):
        states = states + (tl.zeros((like.shape[0], 2), like.dtype),)
    return states


@triton.jit
def choose(condition: tl.tensor, a: tl.tuple, b: tl.tuple, K: tl.constexpr) -> tl.tuple:
    """Return the items of one of two tuples."""
    chosen = ()
    for j in tl.static_range(K):
        chosen = chosen + (tl.where(condition, a[j], b[j]),)
    return chosen


@triton.jit
def _pairs(at: tl.tensor, lane: tl.tensor) -> tl.tensor:
    """Return where each lane keeps its first blank and label: one access of two values."""
    return at + (lane[:, None] * 2 + tl.arange(0, 2)[None, :])


@triton.jit
def load_states(
    at: tl.tensor,
    lane: tl.tensor,
    K: tl.constexpr,
) -> tl.tuple:
    """Load the (LANES, 2) pairs of blanks and labels of a frame."""
    pairs = _pairs(at, lane)
    states = ()
    for j in tl.static_range(K):
        states = states + (tl.load(pairs + j * 2 * lane.shape[0]),)
    return states


@triton.jit
def store_states(
    at: tl.tensor,
    frame: tl.tensor,
    blank: tl.tuple,
    label: tl.tuple,
    others: tl.tuple,
    lane: tl.tensor,
    K: tl.constexpr,
    JOIN: tl.constexpr,
) -> None:
    """Store a frame unless its index is negative, with JOIN after the others are added."""
    pairs = _pairs(at, lane)
    # A mask of one element for all is none in the interpreter of Triton 3.9.
    real = (tl.zeros_like(lane) + frame >= 0)[:, None]
    for j in tl.static_range(K):
        own = tl.join(blank[j], label[j])
        if JOIN:
            own = own + others[j]
        tl.store(pairs + j * 2 * lane.shape[0], own, mask=real)


@triton.jit
def magnitude(
    blank: tl.tuple,
    label: tl.tuple,
    K: tl.constexpr,
) -> tl.tensor:
    """Return the maximum of a frame's scores, rounded down; 0 if no path is possible."""
    peak = tl.maximum(blank[0], label[0])
    for j in tl.static_range(1, K):
        peak = tl.maximum(peak, tl.maximum(blank[j], label[j]))
    peak = tl.max(peak, 0)
    return tl.where(peak > POSSIBLE, tl.floor(peak), 0.0)


@triton.jit
def lower(
    scores: tl.tuple,
    by: tl.tensor,
    K: tl.constexpr,
) -> tl.tuple:
    """Subtract a number from each score."""
    lowered = ()
    for j in tl.static_range(K):
        lowered = lowered + (scores[j] - by,)
    return lowered


@triton.jit
def step(
    at: tl.tensor,
    frame: tl.tensor,
    blank: tl.tuple,
    label: tl.tuple,
    y: tl.tuple,
    others: tl.tuple,
    skip: tl.tuple,
    lane: tl.tensor,
    K: tl.constexpr,
    FORWARD: tl.constexpr,
    KEEP: tl.constexpr,
    JOIN: tl.constexpr,
    FAST: tl.constexpr,
) -> tuple[tl.tuple, tl.tuple]:
    """Consume a frame, not a real one if its index is negative.

    What is kept of it has its emissions in it forward, not backward.
    """
    if FORWARD:
        blank, label = _forward(blank, label, y, skip, lane, K, FAST)
    if KEEP:
        store_states(at, frame, blank, label, others, lane, K, JOIN)
    if not FORWARD:
        blank, label = _backward(blank, label, y, skip, lane, K, FAST)
    return blank, label
