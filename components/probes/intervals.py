"""95 % intervals of accuracies and of means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

Interval: TypeAlias = tuple[float, float]

_Z = 1.959964
# 0.975 quantiles of Student's t for 1 to 10 degrees of freedom.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def wilson(share: float, count: int) -> Interval:
    """Return the interval of a binomial share over ``count`` trials (Wilson 1927)."""
    if count < 1:
        return 0.0, 1.0
    denominator = 1.0 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / denominator
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / denominator
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return math.fsum(values) / len(values)


def over_seeds(values: Sequence[float]) -> Interval:
    """Return the interval of the mean by Student's t; without bounds for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    centre, degrees = mean(values), len(values) - 1
    variance = math.fsum((value - centre) ** 2 for value in values) / degrees
    quantile = _T[degrees - 1] if degrees <= len(_T) else _Z
    half = quantile * math.sqrt(variance / len(values))
    return centre - half, centre + half
