"""The two Triton kernels of the quantiser."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.quantize.similarity import TIE_STEP as _TIE_STEP

TIE_STEP = tl.constexpr(_TIE_STEP)


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def search_kernel(
    points: tl.tensor,
    codes: tl.tensor,
    ids: tl.tensor,
    rows: tl.tensor,
    books: tl.constexpr,
    size: tl.constexpr,
    code_dim: tl.constexpr,
    block_rows: tl.constexpr,
    width: tl.constexpr,
    padded_dim: tl.constexpr,
    uncertain: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write to (rows, books) ``ids`` the nearest code, or -1 where float32 cannot tell.

    Args:
        points: (rows, books, code_dim) float32 unit vectors.
        codes: (books, size, code_dim) float32 unit vectors.
        ids: (rows, books) int64.
    """
    book = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * block_rows + tl.arange(0, block_rows)
    inside = row < rows
    dim = tl.arange(0, padded_dim)
    column = tl.arange(0, width)
    point = tl.load(
        points + (row[:, None] * books + book) * code_dim + dim[None, :],
        mask=inside[:, None] & (dim[None, :] < code_dim),
        other=0.0,
    )
    # Every lane follows the codes of its own column; the columns meet once, after the loop.
    best = tl.full((block_rows, width), float("-inf"), tl.float32)
    second = tl.full((block_rows, width), float("-inf"), tl.float32)
    start = tl.zeros((block_rows, width), tl.int32)
    for first in range(0, size, width):
        code = tl.load(
            codes + (book * size + first + column[None, :]) * code_dim + dim[:, None],
            mask=(first + column[None, :] < size) & (dim[:, None] < code_dim),
            other=0.0,
        )
        similarity = tl.dot(point, code, input_precision=precision)
        if size % width:
            similarity = tl.where(first + column[None, :] < size, similarity, float("-inf"))
        second = tl.maximum(second, tl.minimum(best, similarity))
        start = tl.where(similarity > best, first, start)
        best = tl.maximum(best, similarity)
    code_id = start + column[None, :]
    top = tl.max(best, axis=1)
    chosen = tl.min(tl.where(best == top[:, None], code_id, size), axis=1)
    other = tl.max(tl.where(code_id == chosen[:, None], second, best), axis=1)
    decided = tl.where(top - other > uncertain, chosen, -1)
    # Zero and NaN alike: no direction, and the padding of a batch should not cost a second look.
    directed = tl.sum(tl.abs(point), axis=1) > 0.0
    tl.store(ids + row * books + book, tl.where(directed, decided, 0).to(tl.int64), mask=inside)


@triton.jit(do_not_specialize=["items"])  # type: ignore[untyped-decorator]
def settle_kernel(
    points: tl.tensor,
    codes: tl.tensor,
    ids: tl.tensor,
    items: tl.tensor,
    books: tl.constexpr,
    size: tl.constexpr,
    code_dim: tl.constexpr,
    block_items: tl.constexpr,
    width: tl.constexpr,
    padded_dim: tl.constexpr,
) -> None:
    """Replace each -1 among the first ``items`` of ``ids`` by float64's nearest code.

    Args:
        points: (items, code_dim) float64 unit vectors.
        codes: (books, size, code_dim) float64 unit vectors.
        ids: (items,) int64; item i is of book i % books.
    """
    dim = tl.arange(0, padded_dim)
    lane = tl.arange(0, block_items)
    column = tl.arange(0, width)
    item = tl.program_id(0).to(tl.int64) * block_items
    found = tl.load(ids + item + lane, mask=item + lane < items, other=0)
    next_lane = tl.min(tl.where(found < 0, lane, block_items), axis=0)
    while next_lane < block_items:
        one = item + next_lane
        book = one % books
        point = tl.load(points + one * code_dim + dim, mask=dim < code_dim, other=0.0)
        best = tl.full((width,), float("-inf"), tl.float64)
        code_id = tl.zeros((width,), tl.int32)
        for first in range(0, size, width):
            code = tl.load(
                codes + (book * size + first + column[:, None]) * code_dim + dim[None, :],
                mask=(first + column[:, None] < size) & (dim[None, :] < code_dim),
                other=0.0,
            )
            similarity = tl.sum(code * point[None, :], axis=1)
            similarity -= TIE_STEP * (first + column).to(tl.float64)
            similarity = tl.where(first + column < size, similarity, float("-inf"))
            code_id = tl.where(similarity > best, first + column, code_id)
            best = tl.maximum(best, similarity)
        top = tl.max(best, axis=0)
        chosen = tl.min(tl.where(best == top, code_id, size - 1), axis=0)
        tl.store(ids + one, chosen.to(tl.int64))
        next_lane = tl.min(tl.where((found < 0) & (lane > next_lane), lane, block_items), axis=0)
