from __future__ import annotations

import pytest

from components.schedulers.corners import Corners

CORNERS = Corners(warmup=4, decay_from=10, total=14, shape="linear", floor=0.2, rows_per_step=6)


def test_every_corner() -> None:
    found = {step: CORNERS.factor(step) for step in (1, 3, 4, 5, 10, 11, 12, 13, 14, 15)}
    assert found == {
        1: 0.25,
        3: 0.75,
        4: 1.0,
        5: 1.0,
        10: 1.0,
        11: pytest.approx(0.8),
        12: pytest.approx(0.6),
        13: pytest.approx(0.4),
        14: 0.2,
        15: 0.2,
    }


def test_as_plain_values_and_back() -> None:
    assert Corners(**CORNERS.as_dict()) == CORNERS


def test_rebasing_moves_only_what_is_to_come() -> None:
    rebased = CORNERS.rebased(6, 4)
    assert (rebased.warmup, rebased.decay_from, rebased.total) == (4, 12, 18)
    assert rebased.rows_per_step == 4
    assert CORNERS.rebased(12, 4).decay_from == 10
