"""Triton kernel: the likelihood where both recursions meet, and posteriors from their sums."""

# Constants of a kernel are in capitals; its language has no (*tuple, item) and takes branches apart
# at compile time only where they are statements.
# ruff: noqa: N803, N806, SIM102
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.ctc.triton_lattice import VARYING, sweep, utterance
from kernels.ctc.triton_math import LN_2, NEVER, POSSIBLE, is_fast
from kernels.dispatch import interpreting

TILE_STATES: Final = 1024
"""Blanks, and as many labels, of the frames that a program does: 8 of each for 128 threads."""


@triton.jit
def _log_likelihood(
    middle: tl.tensor,
    excesses: tl.tensor,
    SIZE: tl.constexpr,
) -> tl.tensor:
    """Return the logarithm to base 2, of whose parts only float64 can hold the sum."""
    state = tl.arange(0, SIZE)
    both = tl.load(middle + state) + tl.load(middle + SIZE + state)
    peak = tl.max(both, 0)
    near = peak + tl.log2(tl.sum(tl.exp2(both - peak), 0))
    return near.to(tl.float64) + tl.load(excesses) + tl.load(excesses + 1)


@triton.jit
def _place(
    k: tl.tensor,
    K: tl.constexpr,
    LANES: tl.constexpr,
) -> tl.tensor:
    """Return where the states of a frame keep blank k; label k is the next."""
    return ((k % K) * LANES + k // K) * 2


@triton.jit
def _tile(
    states: tl.tensor,
    posteriors: tl.tensor,
    links: tl.tensor,
    valid: tl.tensor,
    width: tl.tensor,
    used: tl.tensor,
    frame: tl.tensor,
    K: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Write the posteriors of frames: the exponentials of their states over the sum of these.

    So they sum to 1 whatever error the recursions have gathered.
    """
    k = tl.arange(0, K * LANES)
    at = states + frame.to(tl.int64)[:, None] * (2 * K * LANES)
    own = at + _place(k, K, LANES)[None, :]
    row_valid = valid[:, None]
    blank = tl.load(own, mask=row_valid & (k <= used)[None, :], other=NEVER)
    label = tl.load(own + 1, mask=row_valid & (k < used)[None, :], other=NEVER)
    peak = tl.max(tl.maximum(blank, label), 1)[:, None]
    blank = tl.exp2(blank - peak)
    label = tl.exp2(label - peak)
    total = (tl.sum(blank, 1) + tl.sum(label, 1))[:, None]
    link = tl.load(links + k)
    first = link >= -1
    merged = tl.where(first[None, :], label, 0.0)
    later = tl.where(first, link, -1)
    while tl.max(later, 0) >= 0:
        there = at + _place(later, K, LANES)[None, :] + 1
        repeated = (later >= 0)[None, :]
        value = tl.load(there, mask=row_valid & repeated, other=NEVER)
        merged += tl.where(repeated, tl.exp2(value - peak), 0.0)
        code = tl.load(links + later, mask=later >= 0, other=-1)
        later = tl.where(code >= -1, code, -3 - code)
    row = posteriors + frame.to(tl.int64)[:, None] * width
    inside = row_valid & (k < width - 1)[None, :]
    tl.store(row + 1 + k[None, :], merged / total, mask=inside)
    tl.store(row, tl.sum(blank, 1)[:, None] / total, mask=row_valid)


@triton.jit(do_not_specialize=VARYING)
def finish(
    states: tl.tensor,
    middle: tl.tensor,
    excesses: tl.tensor,
    links: tl.tensor,
    losses: tl.tensor,
    posteriors: tl.tensor,
    first_rows: tl.tensor,
    input_lengths: tl.tensor,
    target_lengths: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    max_frames: tl.tensor,
    K: tl.constexpr,
    LANES: tl.constexpr,
    TILE: tl.constexpr,
    POSTERIORS: tl.constexpr,
) -> None:
    """Write losses and, with POSTERIORS, those of frames of utterances that have an alignment.

    Program (i, b) does frames i * TILE to (i + 1) * TILE of utterance b. Labels that occur
    repeatedly are summed in the order of the targets.

    Args:
        states: (rows, K, LANES, 2), see :func:`kernels.ctc.triton_lattice.sweep`.
        middle: (B, 2, K, LANES, 2), see there, as the next two.
        excesses: (B, 2).
        links: (B, K * LANES).
        losses: (B,) receives nats; NaN where lengths are not sound.
        posteriors: (rows, width), 0 where nothing is written.
        first_rows: (B,), as lengths.
        input_lengths: (B,).
        target_lengths: (B,).
        rows: of the posteriors.
        width: of the posteriors.
        max_frames: no utterance is longer.
        K: neighbours in a lane.
        LANES: as in the sweep.
        TILE: frames of a program.
        POSTERIORS: whether to write them.
    """
    index = tl.program_id(1).to(tl.int64)
    start, frames, used, sound = utterance(
        index, first_rows, input_lengths, target_lengths, rows, width - 1, max_frames
    )
    SIZE: tl.constexpr = 2 * K * LANES
    score = _log_likelihood(middle + index * 2 * SIZE, excesses + index * 2, SIZE)
    impossible = score < POSSIBLE
    begin = tl.program_id(0) * TILE
    if begin == 0:
        loss = tl.where(impossible, float("inf"), 0.0 - score * LN_2)
        tl.store(losses + index, tl.where(sound, loss, float("nan")).to(losses.dtype.element_ty))
    if POSTERIORS:
        if (begin < frames) & (not impossible):
            frame = begin + tl.arange(0, TILE)
            _tile(
                states + start * SIZE,
                posteriors + start * width,
                links + index * (K * LANES),
                frame < frames,
                width,
                used,
                frame,
                K,
                LANES,
            )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a sweep spreads its states over lanes; see :func:`shape_for`."""

    neighbours: int
    lanes: int
    depth: int


def shape_for(labels: int, itemsize: int) -> Shape:
    """Return the shape of the sweep for targets of at most ``labels`` labels.

    One warp has no barrier in its recursion. Eight neighbours (four in float64, whose registers
    are twice as wide) keep its function units as busy as its chain of dependent instructions;
    more labels go to more warps. A step takes 130 to 350 cycles by the number of neighbours and
    more with barriers: the depths cover some 600 cycles, the latency of memory beyond the cache,
    with no more code than that needs. The interpreter, with no latency, has fewer steps to do.
    """
    most = 8 if itemsize == 4 else 4
    neighbours, lanes = 1, 32
    while neighbours * lanes <= labels:
        if neighbours < most:
            neighbours *= 2
        else:
            lanes *= 2
    depth = {1: 8, 2: 4, 4: 3, 8: 2}[neighbours] if lanes == 32 and itemsize == 4 else 1
    return Shape(
        neighbours=neighbours, lanes=lanes, depth=min(depth, 2) if interpreting() else depth
    )


def tile_for(shape: Shape) -> int:
    """Return the frames that a program of 128 threads turns into posteriors at once."""
    return max(1, TILE_STATES // (shape.neighbours * shape.lanes))


def warps_for(shape: Shape) -> int:
    """Return the warps that turn states into posteriors; four hold 1024 of them in registers."""
    return 4 if shape.neighbours * shape.lanes <= TILE_STATES else 8


def run_lattice(
    emissions: Tensor,
    first_rows: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    *,
    posteriors: bool,
    max_frames: int,
) -> tuple[Tensor, Tensor | None]:
    """Launch two sweeps and what ends them, one sweep for losses alone; see the engine."""
    count, labels = targets.shape
    rows, width = emissions.shape
    shape = shape_for(labels, emissions.dtype.itemsize)
    slots = shape.neighbours * shape.lanes
    losses = emissions.new_empty(count)
    found = torch.zeros_like(emissions) if posteriors else None
    if count == 0:
        return losses, found
    states = emissions.new_empty((rows if posteriors else 0, slots, 2))
    middle = emissions.new_empty((count, 2, slots, 2))
    excesses = emissions.new_empty((count, 2), dtype=torch.float64)
    links = targets.new_empty((count if posteriors else 0, slots), dtype=torch.int32)
    lengths = (first_rows, input_lengths, target_lengths, rows, width, max_frames)
    for join in (False, True) if posteriors else (False,):
        sweep[(count, 3 if posteriors and not join else 2)](
            emissions,
            states,
            middle,
            excesses,
            links,
            targets,
            *lengths,
            K=shape.neighbours,
            LANES=shape.lanes,
            DEPTH=shape.depth,
            KEEP=posteriors,
            JOIN=join,
            FAST=is_fast(emissions.dtype),
            num_warps=shape.lanes // 32,
            enable_fp_fusion=True,
        )
    tile = tile_for(shape)
    # Frames on the first axis of the grid, which alone has no limit in practice.
    finish[(max(1, triton.cdiv(max_frames, tile)) if posteriors else 1, count)](
        states,
        middle,
        excesses,
        links,
        losses,
        losses if found is None else found,
        *lengths,
        K=shape.neighbours,
        LANES=shape.lanes,
        TILE=tile,
        POSTERIORS=posteriors,
        num_warps=warps_for(shape),
        enable_fp_fusion=True,
    )
    return losses, found
