"""Nearest codes in plain torch: float64 products of a few rows at a time, and their largest.

Float64 throughout: on a CPU the product is a fraction of the time that finding the largest takes,
and half of that again is all that float32 would save. On a GPU whose float64 units are few, the
triton backend is several times faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.chunks import rows_per_chunk
from kernels.quantize.similarity import TIE_STEP, project, unit_vectors


def targets(
    features: Tensor, projection: Tensor, codebooks: Tensor, *, chunk_bytes: int | None
) -> Tensor:
    """Return (N, C) ids for (N, F) features, with about ``chunk_bytes`` of similarities at once."""
    books, size, _ = codebooks.shape
    codes = _with_tie_steps(unit_vectors(codebooks))
    ids = features.new_empty(len(features), books, dtype=torch.int64)
    rows = max(1, min(len(features), rows_per_chunk(size * 8, features.device, chunk_bytes)))
    similarities = codes.new_empty(rows, size)
    largest = codes.new_empty(rows)
    for first in range(0, len(features), rows):
        points = project(features[first : first + rows], projection)
        ones = points.new_ones(len(points), 1)
        for book in range(books):
            lhs = torch.cat((points[:, book], ones), 1)
            product = torch.mm(lhs, codes[book].T, out=similarities[: len(points)])
            index = ids[first : first + rows, book]
            torch.max(product, 1, out=(largest[: len(points)], index))
    return ids


def _with_tie_steps(codes: Tensor) -> Tensor:
    """Append to (C, V, K) codes a coordinate that a point meets with 1: minus a step per id."""
    steps = -TIE_STEP * torch.arange(codes.shape[1], device=codes.device, dtype=codes.dtype)
    return torch.cat((codes, steps.expand(len(codes), -1).unsqueeze(-1)), -1)
