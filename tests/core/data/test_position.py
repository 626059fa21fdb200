from __future__ import annotations

from typing import Any

import pytest

from core.data.position import check_kind, check_same_data, first_batch
from core.errors import DataError

IDENTITY: dict[str, Any] = {
    "fingerprint": "a" * 64,
    "seed": 0,
    "plan": {"batch_seconds": 60.0, "jitter": 0.02},
}


def test_the_same_data_are_accepted() -> None:
    assert check_same_data({**IDENTITY, "epoch": 3}, IDENTITY, "nemo:m", allow=False)


def test_all_differences_are_named_at_once() -> None:
    now = {"fingerprint": "b" * 64, "seed": 1, "plan": {"batch_seconds": 30.0, "max": 8}}
    with pytest.raises(DataError) as caught:
        check_same_data(IDENTITY, now, "nemo:m", allow=False)
    text = str(caught.value)
    for part in (
        f"nemo:m: the manifest changed: {'a' * 16} -> {'b' * 16}",
        "seed: 0 -> 1",
        "batch_seconds: 60.0 -> 30.0",
        "jitter: 0.02 -> None",
        "max: None -> 8",
        "--init-from",
        "--allow-data-change",
    ):
        assert part in text
    assert not check_same_data(IDENTITY, now, "nemo:m", allow=True)


def test_a_setting_newer_than_the_checkpoint_was_off_then() -> None:
    plan = IDENTITY["plan"]
    off = {**IDENTITY, "plan": {**plan, "drop_last": False, "least_seconds": 0.0}}
    assert check_same_data(IDENTITY, off, "nemo:m", allow=False)
    with pytest.raises(DataError, match="drop_last: None -> True"):
        check_same_data(
            IDENTITY, {**IDENTITY, "plan": {**plan, "drop_last": True}}, "nemo:m", allow=False
        )


def test_another_kind_of_position_is_refused() -> None:
    check_kind({"kind": "planned"}, "planned")
    with pytest.raises(DataError, match="of a 'None' stream, and this one is 'planned'"):
        check_kind({}, "planned")


@pytest.mark.parametrize(("batch", "ranks", "first"), [(12, 4, 3), (12, 3, 4), (0, 7, 0)])
def test_a_position_is_divided_among_ranks(batch: int, ranks: int, first: int) -> None:
    assert first_batch({"batch": batch, "epoch": 0, "world_size": 2}, world_size=ranks) == first


def test_a_position_that_ranks_do_not_divide_is_refused_with_a_way_out() -> None:
    with pytest.raises(DataError, match=r"micro-batch 12 of epoch 2, written by 4 ranks.*use 4"):
        first_batch({"batch": 12, "epoch": 2, "world_size": 4}, world_size=5)
