"""Triton kernel: the recursions of CTC from both ends of an utterance to its middle, and on.

The states of an utterance are its blanks k = 0..U, blank k before label k, and its labels
k = 0..U-1. With all scores to base 2, the forward recursion over frames (Graves et al. 2006,
equations 6 and 7) is, for y the emissions of the frame that is consumed::

    c[k]     = blank[k] (+) label[k - 1]
    blank[k] = c[k] + y_blank
    label[k] = (label[k] (+) (c[k] if k may follow k - 1 at once else blank[k])) + y[k]

where (+) is the sum of probabilities, and backward (equations 9 and 10)::

    b[k]     = blank[k] + y_blank,  l[k] = label[k] + y[k]
    blank[k] = b[k] (+) l[k]
    label[k] = l[k] (+) (blank[k + 1] if k + 1 may follow k at once else b[k + 1])

Lane i of LANES holds the K neighbours k = i * K + j, j < K: a shift by one label moves registers
and one value between lanes, whatever K. With 32 lanes, one warp, no step has a barrier.

Both recursions run at once and meet in the middle, where their product sums to the likelihood.
Then each goes on over the frames that the other has done and adds what that has stored: the sums
are the logarithms of the posteriors but for a constant of the frame. So a sweep takes half as many
steps as there are frames, and only one vector of states is kept for a frame.

Every DEPTH steps an integer is taken from all scores, about their maximum, and summed up exactly.
Without it float32 scores of thousands would leave posteriors three digits after 1000 frames. What
is taken was computed DEPTH steps before, so that no step waits for the maximum over the lanes.
"""

# Constants of a kernel are in capitals; its language has no (*tuple, item) and takes branches apart
# at compile time only where they are statements.
# ruff: noqa: N803, N806, RUF005, SIM108
# mypy: disable-error-code="untyped-decorator,assignment,misc"

from __future__ import annotations

import triton
import triton.language as tl

from kernels.ctc.triton_math import NEVER
from kernels.ctc.triton_steps import (
    blank_emissions,
    choose,
    load_emissions,
    load_states,
    lower,
    magnitude,
    step,
    store_states,
    zero_states,
)

# They change from batch to batch, which must not compile kernels anew.
VARYING = ["rows", "width", "max_frames"]


@triton.jit
def utterance(
    index: tl.tensor,
    first_rows: tl.tensor,
    input_lengths: tl.tensor,
    target_lengths: tl.tensor,
    rows: tl.tensor,
    labels: tl.tensor,
    max_frames: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Return an utterance's first row, frames and labels, and whether they are sound.

    An utterance that claims rows or labels that do not exist counts as one without any.
    """
    start = tl.load(first_rows + index)
    frames = tl.load(input_lengths + index)
    used = tl.load(target_lengths + index)
    sound = (frames >= 0) & (frames <= max_frames) & (start >= 0) & (start + frames <= rows)
    sound = sound & (used >= 0) & (used <= labels)
    frames = tl.where(sound, frames, 0).to(tl.int32)
    used = tl.where(sound, used, 0).to(tl.int32)
    return start, frames, used, sound


@triton.jit
def _walk(
    blank: tl.tuple,
    label: tl.tuple,
    skip: tl.tuple,
    lane: tl.tensor,
    row: tl.tensor,
    at: tl.tensor,
    width: tl.tensor,
    used: tl.tensor,
    count: tl.tensor,
    K: tl.constexpr,
    DEPTH: tl.constexpr,
    FORWARD: tl.constexpr,
    KEEP: tl.constexpr,
    JOIN: tl.constexpr,
    FAST: tl.constexpr,
) -> tuple[tl.tuple, tl.tuple, tl.tensor]:
    """Consume ``count`` frames from the one at ``row``; return the states and what was taken off.

    Emissions, and states to join, are loaded DEPTH steps before they are used: the registers of
    DEPTH frames take turns, for which as many steps are written out. The first turn has nothing
    to consume while it loads. Written out before the loop, those loads would double the time that
    the kernel takes to compile.
    """
    SIGN: tl.constexpr = 1 if FORWARD else -1
    FRAME: tl.constexpr = SIGN * 2 * K * lane.shape[0]
    stride = width.to(tl.int64) * SIGN
    taken = tl.zeros((), tl.float64)
    if count > 0:
        ys = ()
        others = ()
        for _ in tl.static_range(DEPTH):
            ys = ys + (blank_emissions(blank[0], K),)
            if JOIN:
                others = others + (zero_states(blank[0], K),)
            else:
                others = others + ((),)
        done = count * 0 - DEPTH
        while done + DEPTH <= count:
            real = done >= 0
            excess = magnitude(blank, label, K)
            old_blank = blank
            old_label = label
            next_ys = ()
            next_others = ()
            for i in tl.static_range(DEPTH):
                here = at + (done + i).to(tl.int64) * FRAME
                blank, label = step(
                    here, done, blank, label, ys[i], others[i], skip, lane,
                    K, FORWARD, KEEP, JOIN, FAST,
                )  # fmt: skip
                later = tl.minimum(done + DEPTH + i, count - 1).to(tl.int64)
                next_ys = next_ys + (load_emissions(row + later * stride, lane, used, K),)
                if JOIN:
                    next_others = next_others + (load_states(at + later * FRAME, lane, K),)
                else:
                    next_others = next_others + ((),)
            ys = next_ys
            others = next_others
            blank = lower(blank, excess, K)
            label = lower(label, excess, K)
            if JOIN:  # from the middle, where states are not those of an end
                blank = choose(real, blank, old_blank, K)
                label = choose(real, label, old_label, K)
            taken += excess.to(tl.float64)
            done += DEPTH
        while done < count:
            here = at + done.to(tl.int64) * FRAME
            blank, label = step(
                here, done, blank, label, ys[0], others[0], skip, lane,
                K, FORWARD, KEEP, JOIN, FAST,
            )  # fmt: skip
            ys = ys[1:] + ys[:1]
            others = others[1:] + others[:1]
            done += 1
    return blank, label, taken


@triton.jit
def _from_one_end(
    emissions: tl.tensor,
    states: tl.tensor,
    middle: tl.tensor,
    excesses: tl.tensor,
    skip: tl.tuple,
    lane: tl.tensor,
    start: tl.tensor,
    width: tl.tensor,
    frames: tl.tensor,
    used: tl.tensor,
    K: tl.constexpr,
    DEPTH: tl.constexpr,
    FORWARD: tl.constexpr,
    KEEP: tl.constexpr,
    JOIN: tl.constexpr,
    FAST: tl.constexpr,
) -> None:
    SIZE: tl.constexpr = 2 * K * lane.shape[0]
    half = frames // 2
    near = half if FORWARD else frames - half
    first = start * 0 if FORWARD else (frames - 1).to(tl.int64)
    blank = ()
    label = ()
    for j in tl.static_range(K):
        k = lane * K + j
        never = tl.full(k.shape, NEVER, middle.dtype.element_ty)
        if FORWARD:
            blank = blank + (tl.where(k == 0, 0.0, never),)
            label = label + (never,)
        else:
            blank = blank + (tl.where(k == used, 0.0, never),)
            label = label + (tl.where(k == used - 1, 0.0, never),)
    if JOIN:
        blank = ()
        label = ()
        pairs = load_states(middle, lane, K)
        for j in tl.static_range(K):
            one, other = tl.split(pairs[j])
            blank = blank + (one,)
            label = label + (other,)
        first = half.to(tl.int64) - (0 if FORWARD else 1)
        near = frames - near
    row = emissions + (start + first) * width
    at = states + (start + first) * SIZE
    blank, label, taken = _walk(
        blank, label, skip, lane, row, at, width, used, near, K, DEPTH, FORWARD, KEEP, JOIN, FAST
    )
    if not JOIN:
        store_states(middle, frames, blank, label, (), lane, K, False)
        tl.store(excesses, taken)


@triton.jit
def _link_repeats(
    links: tl.tensor,
    targets: tl.tensor,
    used: tl.tensor,
    SLOTS: tl.constexpr,
) -> None:
    """Store for each label where the same label comes next, or -1: next if it is the first of its
    kind, else -3 - next.
    """
    k = tl.arange(0, SLOTS)
    own = tl.load(targets + k, mask=k < used, other=-1)
    later = tl.full((SLOTS,), -1, tl.int32)
    first = k < used
    i = used - 1
    while i >= 0:
        same = (own == tl.load(targets + i)) & (k < used)
        later = tl.where(same & (k < i), i, later)
        first = first & ~(same & (k > i))
        i -= 1
    tl.store(links + k, tl.where(first, later, -3 - later))


@triton.jit(do_not_specialize=VARYING)
def sweep(
    emissions: tl.tensor,
    states: tl.tensor,
    middle: tl.tensor,
    excesses: tl.tensor,
    links: tl.tensor,
    targets: tl.tensor,
    first_rows: tl.tensor,
    input_lengths: tl.tensor,
    target_lengths: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    max_frames: tl.tensor,
    K: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
    KEEP: tl.constexpr,
    JOIN: tl.constexpr,
    FAST: tl.constexpr,
) -> None:
    """Go from both ends of utterances to their middle or, with JOIN, from there to the ends.

    Programs (b, 0) go forward and (b, 1) backward. With KEEP and without JOIN, programs (b, 2)
    find the labels that occur repeatedly.

    Args:
        emissions: (rows, width) natural logarithms.
        states: (rows, K, LANES, 2) with KEEP: the states of the frames done; with JOIN the sums
            of both directions' states.
        middle: (B, 2, K, LANES, 2) states where the two meet, from either side.
        excesses: (B, 2) float64, what was taken from the states on the way to the middle.
        links: (B, K * LANES) int32, see :func:`_link_repeats`.
        targets: (B, width - 1).
        first_rows: (B,), as lengths.
        input_lengths: (B,).
        target_lengths: (B,).
        rows: of the emissions.
        width: of the emissions.
        max_frames: no utterance is longer.
        K: neighbours in a lane.
        LANES: 32 for each warp.
        DEPTH: frames that are loaded ahead.
        KEEP: whether to write states.
        JOIN: whether to start in the middle.
        FAST: see :func:`kernels.ctc.triton_math.log_add`.
    """
    SIZE: tl.constexpr = 2 * K * LANES
    index = tl.program_id(0).to(tl.int64)
    start, frames, used, _ = utterance(
        index, first_rows, input_lengths, target_lengths, rows, width - 1, max_frames
    )
    direction = tl.program_id(1)
    targets += index * (width - 1)
    middle += (index * 2 + direction) * SIZE
    excesses += index * 2 + direction
    lane = tl.arange(0, LANES)
    skip = ()
    for j in tl.static_range(K):
        k = lane * K + j
        inner = (k > 0) & (k < used)
        own = tl.load(targets + k, mask=inner, other=0)
        skip = skip + (inner & (own != tl.load(targets + k - 1, mask=inner, other=0)),)
    if direction == 0:
        _from_one_end(
            emissions, states, middle, excesses, skip, lane, start, width, frames, used,
            K, DEPTH, True, KEEP, JOIN, FAST,
        )  # fmt: skip
    elif direction == 1:
        _from_one_end(
            emissions, states, middle, excesses, skip, lane, start, width, frames, used,
            K, DEPTH, False, KEEP, JOIN, FAST,
        )  # fmt: skip
    elif KEEP and not JOIN:
        _link_repeats(links + index * (K * LANES), targets, used, K * LANES)
