from __future__ import annotations

import math

import pytest

from components.probes.intervals import over_seeds, wilson


def test_wilson_has_the_textbook_values() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    low, high = wilson(0.05, 3000)
    assert (high - low) / 2 == pytest.approx(0.0078, abs=1e-4)  # The 0.8 points of the protocol.
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1.0, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert wilson(0.3, 0) == (0.0, 1.0)


def test_over_seeds_is_students() -> None:
    low, high = over_seeds([1.0, 2.0, 3.0])
    half = 4.3027 * 1.0 / math.sqrt(3)
    assert (low, high) == pytest.approx((2.0 - half, 2.0 + half), abs=1e-4)
    assert over_seeds([0.4] * 20) == pytest.approx((0.4, 0.4))
    assert over_seeds([1.0]) == (-math.inf, math.inf)
