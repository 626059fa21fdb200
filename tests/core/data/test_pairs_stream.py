from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from core.contracts import FixedRows
from core.data.loading import LoaderOptions
from core.data.pairs_index import open_pairs
from core.data.pairs_order import OrderOptions
from core.data.pairs_stream import PairStream, Request, Supply
from core.errors import DataError
from tests.core.train.toy import ToyBatch, toy_batch
from tests.fixtures.pair_files import edit_row, write_pairs

ROWS = 50
ORDER = OrderOptions(block=16, bucket=4)


def load(request: Request) -> ToyBatch:
    """Name the rows of a request, so that a test can see them."""
    epoch, rows = request
    made = toy_batch(len(rows), 0)
    return ToyBatch(ids=tuple(f"{epoch}:{row}" for row in rows), x=made.x, weights=made.weights)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, ROWS)


def stream(manifest: Path, *, rows: int = ROWS, batch: int = 4, **options: Any) -> PairStream:
    index = open_pairs(manifest)
    settings: dict[str, Any] = {"order": ORDER, "seed": 5, "loading": LoaderOptions()}
    return PairStream(
        index=index,
        supply=Supply(rows=rows, total=len(index), refill="make more"),
        load=load,
        batch_size=batch,
        **{**settings, **options},
    )


def rows_of(batches: Any) -> list[int]:
    return [int(name.split(":")[1]) for batch in batches for name in batch.ids]


def take(batches: PairStream, count: int) -> list[int]:
    found = []
    for batch in batches:
        found += rows_of([batch])
        count -= 1
        if count == 0:
            break
    return found


def moved(batches: PairStream, manifest: Path, **options: Any) -> PairStream:
    """Return another stream at the position of this one, through JSON as in a checkpoint."""
    other = stream(manifest, **options)
    other.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    return other


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_gives_every_row_once_in_blocks(manifest: Path, workers: int) -> None:
    batches = stream(manifest, loading=LoaderOptions(workers=workers))
    found = rows_of(batches)
    assert sorted(found) == list(range(ROWS))
    for start in range(0, ROWS, 16):
        end = min(start + 16, ROWS)
        assert sorted(found[start:end]) == list(range(start, end))
    assert batches.epoch == 1
    assert batches.exhausted is None
    second = rows_of(batches)
    assert sorted(second) == list(range(ROWS))
    assert second != found


@pytest.mark.parametrize(
    ("taken", "workers"), [*((taken, 0) for taken in range(14)), (0, 2), (5, 2), (12, 2)]
)
def test_resuming_anywhere_goes_on_exactly(manifest: Path, taken: int, workers: int) -> None:
    loading = LoaderOptions(workers=workers, prefetch=2)
    whole = rows_of(stream(manifest))
    batches = stream(manifest, loading=loading)
    begun = take(batches, taken) if taken else []
    assert begun + rows_of(moved(batches, manifest, loading=loading)) == (
        whole if len(begun) < ROWS else whole + rows_of(moved(batches, manifest))
    )


@pytest.mark.parametrize("batch", [1, 3, 8, 16, 100])
def test_the_order_of_rows_does_not_depend_on_the_batch_size(manifest: Path, batch: int) -> None:
    whole = rows_of(stream(manifest))
    assert rows_of(stream(manifest, batch=batch)) == whole
    first = stream(manifest)
    begun = take(first, 5)
    assert begun + rows_of(moved(first, manifest, batch=batch)) == whole


def test_ranks_take_micro_batches_by_turns_and_share_the_last_rows(manifest: Path) -> None:
    alone = [rows_of([batch]) for batch in stream(manifest, batch=4)]
    ranks = [
        [rows_of([batch]) for batch in stream(manifest, batch=4, rank=rank, world_size=3)]
        for rank in range(3)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    for number in range(4):
        assert [rank[number] for rank in ranks] == alone[3 * number : 3 * number + 3]
    assert sorted(chain(*(rank[4] for rank in ranks))) == sorted(chain(*alone[12:]))
    assert [len(rank[4]) for rank in ranks] == [1, 1, 0]
    assert stream(manifest, batch=4, world_size=3).steps_per_epoch == 5


def test_a_position_holds_for_another_number_of_ranks(manifest: Path) -> None:
    whole = rows_of(stream(manifest))
    first = stream(manifest, batch=4, rank=0, world_size=2)
    take(first, 3)
    assert first.state_dict()["row"] == 24
    assert rows_of(moved(first, manifest)) == whole[24:]


def test_eight_by_eight_is_sixteen_by_four_a_step(manifest: Path) -> None:
    small, large = stream(manifest, batch=2), stream(manifest, batch=4)
    assert -(-small.steps_per_epoch // 4) == -(-large.steps_per_epoch // 2) == 7
    for _ in range(6):
        assert take(small, 4) == take(large, 2)
        small, large = moved(small, manifest, batch=2), moved(large, manifest, batch=4)


def test_it_tells_a_schedule_how_many_rows_a_batch_has(manifest: Path) -> None:
    batches = stream(manifest, batch=8)
    assert isinstance(batches, FixedRows)
    assert batches.rows_per_batch == 8


def test_a_prefix_that_is_used_up_says_how_to_go_on(manifest: Path) -> None:
    batches = stream(manifest, rows=22)
    assert batches.exhausted is None
    assert sorted(rows_of(batches)) == list(range(22))
    assert batches.epoch == 0
    message = batches.exhausted
    assert message is not None
    assert "all 22 rows that can be used are consumed, of 50" in message
    assert "make more" in message
    assert "row 23" in message
    assert rows_of(batches) == []
    assert moved(batches, manifest, rows=22).exhausted == message
    assert batches.steps_per_epoch == 13, "the schedule is that of the whole manifest"


@pytest.mark.parametrize("taken", [1, 4, 5, 6])
def test_rows_that_are_appended_come_after_and_change_nothing_before(
    manifest: Path, taken: int
) -> None:
    first = stream(manifest, rows=22)
    whole = rows_of(stream(manifest, rows=22))
    begun = take(first, taken)
    grown = moved(first, manifest, rows=50)
    rest = rows_of(grown)
    assert sorted(begun + rest) == list(range(50))
    # The block in progress is finished as it was begun, even the one that ended with the rows.
    end = first.state_dict()["block"][1]
    assert (begun + rest)[:end] == whole[:end]
    assert grown.epoch == 1


def test_rows_that_change_before_they_are_reached_are_taken_as_they_are(manifest: Path) -> None:
    first = stream(manifest, rows=22)
    begun = take(first, 3)
    edit_row(manifest, 30, target_mel_path="mel/T30.npy")
    assert sorted(begun + rows_of(moved(first, manifest))) == list(range(ROWS))


def test_consumed_rows_that_changed_are_refused_with_the_reason(manifest: Path) -> None:
    first = stream(manifest)
    take(first, 3)
    edit_row(manifest, 2, target_text="else")
    with pytest.raises(DataError, match=r"rows 1 to 16: the manifest changed"):
        moved(first, manifest)
    other = stream(manifest)
    other.load_state_dict(first.state_dict(), allow_data_change=True)
    assert sorted(rows_of(other)) == list(range(ROWS))


def test_rows_that_lost_their_mel_are_refused(manifest: Path) -> None:
    first = stream(manifest, rows=40)
    take(first, 8)
    with pytest.raises(DataError, match="only the first 30 rows can be used: mel was removed"):
        moved(first, manifest, rows=30)


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"order": OrderOptions(block=16, bucket=8)}], ids=["seed", "order"]
)
def test_another_order_is_refused(manifest: Path, change: dict[str, Any]) -> None:
    first = stream(manifest)
    take(first, 3)
    with pytest.raises(DataError, match=r"seed: 5 -> 6|bucket: 4 -> 8"):
        moved(first, manifest, **change)


def test_another_kind_of_position_is_refused(manifest: Path) -> None:
    with pytest.raises(DataError, match="'planned' stream"):
        stream(manifest).load_state_dict({"kind": "planned"})


def test_workers_end_when_the_stream_is_no_longer_used(manifest: Path) -> None:
    import multiprocessing

    before = set(multiprocessing.active_children())  # another test's may still be ending
    batches = stream(manifest, loading=LoaderOptions(workers=2))
    take(batches, 1)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    del batches
    assert not workers & set(multiprocessing.active_children())
