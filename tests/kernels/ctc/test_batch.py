"""Rows, chunks and columns of a batch."""

from __future__ import annotations

import pytest
import torch

from kernels.ctc.arguments import Labels
from kernels.ctc.batch import Batch, first_columns, prepare, repeated_columns
from tests.kernels.ctc.drivers import Elsewhere, make_options


def batch(input_lengths: list[int], frames: int, consistency: float = 0.0) -> Batch:
    count = len(input_lengths)
    labels = Labels(
        torch.tensor([[3, 3, 9]] * count),
        torch.tensor(input_lengths),
        torch.tensor([2] * count),
    )
    return prepare((count, frames), 5, labels, make_options(consistency=consistency))


def test_labels_and_columns() -> None:
    found = batch([4, 2], 4)
    assert found.targets.tolist() == [[3, 3, 0]] * 2
    assert found.columns.tolist() == [[0, 3, 3, 0]] * 2
    assert found.repeated.tolist() == [[False, False, True, True]] * 2
    assert found.inside.tolist() == [[True, True, False]] * 2
    assert found.repeats.tolist() == [1, 1]
    assert found.feasible.tolist() == [True, False]
    assert not found.broken.any()


@pytest.mark.parametrize("consistency", [0.0, 0.5])
@pytest.mark.parametrize("lengths", [[4, 2, 4, 2], [5, 5, 5, 5], [5, 0, 5, 0], [0, 0, 0, 0]])
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 100])
def test_chunks_cover_each_valid_frame_once(
    lengths: list[int], consistency: float, limit: int
) -> None:
    found = batch(lengths, 5, consistency)
    frames = torch.arange(20)
    valid = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    assert found.rows == sum(lengths)
    seen = torch.zeros(20, dtype=torch.int64)
    rows = torch.full((found.rows,), -1)
    for chunk in found.chunks(limit):
        assert chunk.rows <= max(limit, found.views)
        taken = chunk.take(frames)
        assert torch.equal(taken, chunk.frames())
        assert torch.equal(taken // 5, chunk.of(found.utterances))
        if found.views == 2:
            # Both views of a frame are in one chunk, half of it apart.
            first, second = taken.chunk(2)
            assert torch.equal(first + 10, second)
        chunk.put(seen[taken] + 1, seen)
        chunk.store(taken, rows)
    assert torch.equal(seen.view(4, 5), valid.long())
    assert torch.equal(rows, frames[valid.flatten()])
    assert torch.equal(found.pack(frames.view(4, 5)), rows)
    assert torch.equal(found.unpack(rows), frames.view(4, 5) * valid)


@pytest.mark.parametrize(
    ("limit", "sizes"), [(100, [64, 64, 64, 8]), (150, [128, 72]), (63, [63, 63, 63, 11])]
)
def test_chunks_are_made_of_tiles(limit: int, sizes: list[int]) -> None:
    found = batch([100, 100], 100)
    assert [chunk.rows for chunk in found.chunks(limit)] == sizes


def test_padding_of_lengths_that_the_host_does_not_know() -> None:
    known = batch([4, 2], 4)
    lengths = torch.tensor([4, 2])
    # What prepare() takes for lengths on another device.
    hidden = lengths.as_subclass(Elsewhere)
    labels = Labels(torch.tensor([[3, 3, 9]] * 2), hidden, torch.tensor([2, 2]))
    found = prepare((2, 4), 5, labels, make_options(validate=False))
    assert found.frames is None
    assert found.rows == 8
    assert found.first_rows.tolist() == [0, 4]
    values = torch.arange(8.0)
    assert found.unpack(found.without_padding(values)).tolist() == [
        [0, 1, 2, 3],
        [4, 5, 0, 0],
    ]
    assert known.unpack(values[:6]).tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]
    weights = found.live(torch.tensor([2.0, torch.nan]))
    assert weights[:4].tolist() == [2.0] * 4
    assert weights[4:6].isnan().all()
    assert weights[6:].tolist() == [0.0, 0.0]


def test_repeated_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.randint(0, 9, (5, 12), generator=torch.Generator().manual_seed(0))
    expected = [
        [label in row[:place] for place, label in enumerate(row)] for row in labels.tolist()
    ]
    assert repeated_columns(labels).tolist() == expected
    monkeypatch.setattr("kernels.ctc.batch.PAIRS", 0)
    assert repeated_columns(labels).tolist() == expected


def test_first_columns() -> None:
    labels = torch.tensor([[0, 5, 2, 5, 2, 2], [0, 0, 0, 0, 0, 0], [0, 9, 8, 7, 6, 5]])
    assert first_columns(labels).tolist() == [
        [0, 1, 2, 1, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 2, 3, 4, 5],
    ]
    assert first_columns(torch.zeros((2, 1), dtype=torch.int64)).tolist() == [[0], [0]]
