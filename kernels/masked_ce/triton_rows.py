"""Triton kernels: loss, hit and gradient of a row of logits.

With m the largest logit, e_v = exp(z_v - m), y the target and R the sum of e over the other
classes, p_v = e_v / (R + e_y), so 1 - p_y = R / (R + e_y) and, where y is the largest, the loss is
log(1 + R): neither is a difference of close numbers, however confident the model.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Classes up to which a row stays in the registers of one program: 16 for each of 512 threads.
# Of 1024 threads each has 64 registers, which is not enough where rows are not aligned.
RESIDENT = 8192
# Classes that the other kernel takes at once.
STREAMED = 4096
# One element a program. They may start anywhere in a chunk, which must not compile kernels anew.
SCALARS = ["targets", "weights", "losses", "hits"]


def fits_registers(vocabulary: int, itemsize: int) -> bool:
    """Say whether :func:`resident` takes a row, which it holds in float32, or float64 if given."""
    return vocabulary * max(itemsize, 4) <= RESIDENT * 4


def launch_options(vocabulary: int, itemsize: int) -> tuple[int, int]:
    """Return the elements a program handles at once, and its warps: 64 bytes a thread."""
    whole = fits_registers(vocabulary, itemsize)
    block = max(32, triton.next_power_of_2(vocabulary)) if whole else STREAMED
    return block, max(1, block * max(itemsize, 4) // 2048)


@triton.jit  # type: ignore[untyped-decorator]
def _log_one_plus(x: tl.tensor) -> tl.tensor:
    """Logarithm of 1 + x to full relative precision: the rounding of 1 + x cancels out."""
    one_plus = 1.0 + x
    kept = one_plus - 1.0
    return tl.where(kept == 0.0, x, tl.log(one_plus) * (x / tl.where(kept == 0.0, 1.0, kept)))


@triton.jit  # type: ignore[untyped-decorator]
def _loss(top: tl.tensor, score: tl.tensor, mine: tl.tensor, others: tl.tensor) -> tl.tensor:
    rest = tl.where(score == top, _log_one_plus(others), tl.log(others + mine))
    return (top - score) + rest


@triton.jit(do_not_specialize_on_alignment=SCALARS)  # type: ignore[untyped-decorator]
def resident(
    logits: tl.tensor,
    targets: tl.tensor,
    weights: tl.tensor,
    losses: tl.tensor,
    hits: tl.tensor,
    VOCABULARY: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    GRADIENT: tl.constexpr,  # noqa: N803
) -> None:
    """Handle one row whose classes fit into BLOCK; ``weights`` may be None."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * VOCABULARY
    target = tl.load(targets + row)
    known = (target >= 0) & (target < VOCABULARY)
    columns = tl.arange(0, BLOCK)
    inside = columns < VOCABULARY
    accumulated = losses.dtype.element_ty

    score = tl.load(logits + target, mask=known, other=0.0).to(accumulated)
    z = tl.load(logits + columns, mask=inside, other=float("-inf")).to(accumulated)
    top = tl.max(z, axis=0)
    first = tl.min(tl.where(z == top, columns, VOCABULARY), axis=0)
    others_at = columns != target
    e = tl.exp(z - top)
    others = tl.sum(tl.where(others_at, e, 0.0), axis=0)
    mine = tl.exp(score - top)
    loss = _loss(top, score, mine, others)
    tl.store(losses + row, tl.where(known, loss, float("nan")))
    tl.store(hits + row, (first == target).to(tl.int32))
    if GRADIENT:
        weight = tl.full((), 1.0, accumulated)
        if weights is not None:
            weight = tl.load(weights + row)
        factor = tl.where(known, weight, float("nan")) / (others + mine)
        gradient = tl.where(others_at, e * factor, -others * factor)
        gradient = tl.where(weight == 0.0, 0.0, gradient)
        tl.store(logits + columns, gradient.to(logits.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize_on_alignment=SCALARS)  # type: ignore[untyped-decorator]
def streamed(
    logits: tl.tensor,
    targets: tl.tensor,
    weights: tl.tensor,
    losses: tl.tensor,
    hits: tl.tensor,
    VOCABULARY: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    GRADIENT: tl.constexpr,  # noqa: N803
) -> None:
    """Handle one row of any length in steps of BLOCK, with a running maximum and sum."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * VOCABULARY
    target = tl.load(targets + row)
    known = (target >= 0) & (target < VOCABULARY)
    lanes = tl.arange(0, BLOCK)
    accumulated = losses.dtype.element_ty

    score = tl.load(logits + target, mask=known, other=0.0).to(accumulated)
    top = tl.full((), float("-inf"), accumulated)
    others = tl.full((), 0.0, accumulated)
    first = tl.full((), 0, tl.int32)
    start = tl.full((), 0, tl.int32)
    while start < VOCABULARY:
        columns = start + lanes
        z = tl.load(logits + columns, mask=columns < VOCABULARY, other=float("-inf"))
        z = z.to(accumulated)
        block_top = tl.max(z, axis=0)
        block_first = tl.min(tl.where(z == block_top, columns, VOCABULARY), axis=0)
        first = tl.where(block_top > top, block_first, first)
        new_top = tl.maximum(top, block_top)
        # Until a finite logit is met nothing may be subtracted: inf - inf is NaN.
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        e = tl.where(columns != target, tl.exp(z - shift), 0.0)
        others = others * tl.exp(top - shift) + tl.sum(e, axis=0)
        top = new_top
        start += BLOCK
    mine = tl.exp(score - top)
    loss = _loss(top, score, mine, others)
    tl.store(losses + row, tl.where(known, loss, float("nan")))
    tl.store(hits + row, (first == target).to(tl.int32))
    if GRADIENT:
        weight = tl.full((), 1.0, accumulated)
        if weights is not None:
            weight = tl.load(weights + row)
        factor = tl.where(known, weight, float("nan")) / (others + mine)
        start = tl.full((), 0, tl.int32)
        while start < VOCABULARY:
            columns = start + lanes
            inside = columns < VOCABULARY
            z = tl.load(logits + columns, mask=inside, other=float("-inf")).to(accumulated)
            gradient = tl.where(columns != target, tl.exp(z - top) * factor, -others * factor)
            gradient = tl.where(weight == 0.0, 0.0, gradient)
            tl.store(logits + columns, gradient.to(logits.dtype.element_ty), mask=inside)
            start += BLOCK
