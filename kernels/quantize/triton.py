"""Nearest codes on CUDA: a float32 search that knows when it cannot decide, then float64 for those.

The search keeps the largest and the second largest similarity of a row in registers and writes
nothing but the id. Where the two are too close for its arithmetic to tell which is larger, about
one row in a thousand with 8,192 codes in 16 dimensions, it writes -1, and a second kernel goes
through the row's book again in float64. So every id is float64's, at the speed of tensor cores.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from kernels.chunks import rows_per_chunk
from kernels.dispatch import interpreting
from kernels.quantize.similarity import project, unit_vectors
from kernels.quantize.triton_kernels import search_kernel, settle_kernel

ROWS = 64
ITEMS = 32


def targets(
    features: Tensor, projection: Tensor, codebooks: Tensor, *, chunk_bytes: int | None
) -> Tensor:
    """Return (N, C) ids for (N, F) features; projects about ``chunk_bytes`` of rows at once."""
    ids = features.new_empty(len(features), len(codebooks), dtype=torch.int64)
    codes = unit_vectors(codebooks).contiguous()
    codes32 = codes.float()
    # Float64 features, their projections, and three passes over those, besides the float32 copy.
    held = 8 * (features.shape[1] + 4 * projection.shape[0] * projection.shape[2])
    rows = rows_per_chunk(held, features.device, chunk_bytes)
    for first in range(0, len(features), rows):
        points = project(features[first : first + rows], projection)
        _nearest(points, codes, codes32, ids[first : first + rows])
    return ids


def _nearest(points: Tensor, codes: Tensor, codes32: Tensor, ids: Tensor) -> None:
    """Fill (n, C) ``ids`` for (n, C, K) float64 unit ``points``."""
    books, size, code_dim = codes.shape
    rows = len(points)
    with torch.cuda.device_of(points):
        search_kernel[(triton.cdiv(rows, ROWS), books)](
            points.float(),
            codes32,
            ids,
            rows,
            books=books,
            size=size,
            code_dim=code_dim,
            **search_options(code_dim),
        )
        settle_kernel[(triton.cdiv(rows * books, ITEMS),)](
            points,
            codes,
            ids,
            rows * books,
            books=books,
            size=size,
            code_dim=code_dim,
            **settle_options(code_dim),
        )


def search_options(code_dim: int) -> dict[str, object]:
    """Return the constants and launch options of the search for codes of ``code_dim``."""
    # Three products of TF32 halves lose no more than float32 does; AMD's units have no such mode.
    exact = interpreting() or torch.version.hip is not None
    return {
        "block_rows": ROWS,
        "width": 32,
        "padded_dim": max(16, triton.next_power_of_2(code_dim)),
        "uncertain": uncertain(code_dim),
        "precision": "ieee" if exact else "tf32x3",
        "num_warps": 4 if code_dim <= 32 else 8,
        "num_stages": 2,
    }


def settle_options(code_dim: int) -> dict[str, object]:
    """Return the constants and launch options of the float64 kernel."""
    padded = triton.next_power_of_2(code_dim)
    return {
        "block_items": ITEMS,
        "width": max(16, 2048 // padded),
        "padded_dim": padded,
        "num_warps": 8,
        "num_stages": 2,
    }


def uncertain(code_dim: int) -> float:
    """Return the gap between two similarities below which the search does not trust its order.

    Of unit vectors, rounding to float32 costs a similarity 2^-23, dropping the product of the TF32
    remainders 2^-22 and rounding those as much twice; each of the three sums of K products, which
    tensor cores add with truncation, K * 2^-23 or less. Twice all that, for the two that are
    compared, is under 2^-20 + K * 2^-20; as much again and a constant are to spare, because a row
    decided twice costs little.
    """
    return float(2.0**-15 + code_dim * 2.0**-19)
