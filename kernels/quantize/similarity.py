"""The float64 similarity that defines which code is nearest, for all backends."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

TIE_STEP: Final = 2.0**-48
"""What each id costs in similarity, so that of equally near codes the lowest id wins.

It stands well above the rounding of a float64 dot product of unit vectors, so that backends and
devices, which sum in different orders, decide ties alike; and for 8,192 codes all steps together
stay below 2^-35, far under what float32 resolves.
"""


def unit_vectors(vectors: Tensor) -> Tensor:
    """Return vectors along the last dimension in float64 at length 1.

    A zero vector stays zero. One that holds NaN or infinity, which has no direction, becomes NaN
    in at least one place.
    """
    vectors = vectors.double()
    smallest = torch.finfo(torch.float64).tiny
    # By the largest entry first: the squares of very large or small entries leave float64's range.
    vectors = vectors / vectors.abs().amax(-1, keepdim=True).clamp_min(smallest)
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(smallest)


def project(features: Tensor, projection: Tensor) -> Tensor:
    """Map (n, F) features by (C, F, K) projections to (n, C, K) float64 unit vectors."""
    books, dim, code_dim = projection.shape
    matrix = projection.double().transpose(0, 1).reshape(dim, books * code_dim)
    points = (features.double() @ matrix).view(-1, books, code_dim)
    return unit_vectors(points)
