"""Nearest codes by the equations, with the whole (N, C, V) similarities in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.quantize.similarity import TIE_STEP, project, unit_vectors


def targets(
    features: Tensor, projection: Tensor, codebooks: Tensor, *, chunk_bytes: int | None
) -> Tensor:
    """Return (N, C) ids for (N, F) features; ``chunk_bytes`` has no meaning here."""
    points = project(features, projection)
    similarities = torch.einsum("nck,cvk->ncv", points, unit_vectors(codebooks))
    steps = torch.arange(codebooks.shape[1], device=features.device, dtype=torch.float64)
    return (similarities - TIE_STEP * steps).argmax(-1)
