from __future__ import annotations

import numpy as np
import pytest

from core.data.pairs_order import OrderOptions, Place, block_order
from core.errors import ConfigError

LENGTHS = np.random.default_rng(0).integers(10, 500, 1000)
SPEAKERS = np.random.default_rng(1).integers(0, 40, 1000)


@pytest.mark.parametrize("each", [1, 2, 4])
def test_a_block_gives_each_of_its_rows_once(each: int) -> None:
    options = OrderOptions(bucket=64, rows_per_speaker=each)
    for start, end in ((0, 1000), (300, 777), (999, 1000)):
        place = Place(start=start, end=end)
        rows = block_order(LENGTHS, SPEAKERS, options, seed=3, epoch=1, place=place)
        assert sorted(rows.tolist()) == list(range(start, end))


def test_the_order_is_a_function_of_seed_epoch_and_block_and_of_no_other_row() -> None:
    options = OrderOptions(bucket=64)
    place = Place(start=0, end=500)

    def order(seed: int = 0, epoch: int = 0, lengths: object = LENGTHS) -> list[int]:
        assert isinstance(lengths, np.ndarray)
        return block_order(lengths, SPEAKERS, options, seed=seed, epoch=epoch, place=place).tolist()

    assert order() == order()
    assert order() == order(lengths=np.concatenate([LENGTHS[:500], 7 * LENGTHS[500:]]))
    assert order() != order(seed=1)
    assert order() != order(epoch=1)


def test_buckets_hold_rows_of_like_length_and_are_shuffled() -> None:
    options = OrderOptions(bucket=50)
    place = Place(start=0, end=1000)
    rows = block_order(LENGTHS, SPEAKERS, options, seed=0, epoch=0, place=place)
    buckets = LENGTHS[rows].reshape(-1, 50)
    spread = np.ptp(buckets, axis=1)
    assert spread.max() < 0.2 * np.ptp(LENGTHS)
    means = buckets.mean(axis=1)
    assert 3 < np.count_nonzero(np.diff(means) < 0) < 17


def test_batches_by_speaker_have_k_rows_of_each_and_no_speaker_twice() -> None:
    # 40 speakers have 12 or more rows each, so the first rounds fill whole batches of 32 rows.
    options = OrderOptions(bucket=32, rows_per_speaker=4)
    place = Place(start=0, end=1000)
    rows = block_order(LENGTHS, SPEAKERS, options, seed=0, epoch=0, place=place)
    whole = 0
    for start in range(0, 1000 - 32, 32):
        who = SPEAKERS[rows[start : start + 32]].reshape(8, 4)
        if (who == who[:, :1]).all():
            whole += len(set(who[:, 0].tolist())) == 8
    assert whole >= 15
    plain = block_order(LENGTHS, SPEAKERS, OrderOptions(bucket=32), seed=0, epoch=0, place=place)
    who = SPEAKERS[plain[:32]].reshape(8, 4)
    assert not (who == who[:, :1]).all()


def test_blocks_follow_each_other_and_a_short_one_keeps_its_end() -> None:
    place = Place().within(10, 4)
    assert place == Place(start=0, end=4)
    assert place.after(4).within(10, 4) == Place(start=4, end=8)
    last = Place(start=8, end=10, taken=2)
    assert last.within(10, 4) is last
    assert last.within(30, 4) == Place(start=10, end=14)
    begun = Place(start=8, end=10, taken=1)
    assert begun.within(30, 4) is begun, "a block that was begun is not cut again"


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        OrderOptions(block=0)
    with pytest.raises(ConfigError, match="whole runs"):
        OrderOptions(bucket=10, rows_per_speaker=4)
