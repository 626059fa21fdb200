"""How large a representation is, and in how many directions it varies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from components.probes.classification import checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Size and spread of a representation.

    Args:
        norm: mean L2 norm of a row.
        norm_deviation: standard deviation of the norms.
        spread: root mean square distance from the mean row. Zero for a constant, which tells
            nothing of anything.
        effective_rank: exponential of the entropy of the normalised singular values of the centred
            rows (Roy and Vetterli 2007); 1 for a line, D for a ball.
        dimensions: D.
    """

    norm: float
    norm_deviation: float
    spread: float
    effective_rank: float
    dimensions: int

    def as_dict(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        return asdict(self)


def geometry(features: Tensor) -> Geometry:
    """Return the size and spread of (N, D) features; of a constant the rank is 0."""
    x, _ = checked(features, None)
    centred = (x - x.mean(0)).double()
    norms = torch.linalg.vector_norm(x.double(), dim=1)
    squares = torch.linalg.eigvalsh(centred.T @ centred)
    singular = squares.clamp_min(0.0).sqrt()
    # What rounding leaves of a constant is no direction.
    size = float(norms.square().sum().sqrt())
    singular = torch.where(singular > 1e-6 * size, singular, 0.0)
    shares = singular / singular.sum().clamp_min(1e-300)
    entropy = float(-torch.special.xlogy(shares, shares).sum())
    return Geometry(
        norm=float(norms.mean()),
        norm_deviation=float(norms.std(correction=0)),
        spread=float(centred.square().sum(1).mean().sqrt()),
        effective_rank=float(torch.tensor(entropy).exp()) if float(singular.sum()) > 0 else 0.0,
        dimensions=x.shape[1],
    )
