from __future__ import annotations

from components.schedulers.constant import Constant


def test_is_one_after_the_warmup() -> None:
    assert [Constant().factor(step, None) for step in (1, 2, 10**9)] == [1.0, 1.0, 1.0]
    warm = Constant(warmup_steps=5)
    assert [warm.factor(step, None) for step in (1, 4, 5, 6)] == [0.2, 0.8, 1.0, 1.0]
