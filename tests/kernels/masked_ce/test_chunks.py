from __future__ import annotations

import pytest
import torch

from kernels.masked_ce.chunks import book_groups, frame_chunks, rows_at_once

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_default_is_bytes_but_not_too_few_rows() -> None:
    assert rows_at_once(None, 4 * 8192, CPU, 1000) == 256
    assert rows_at_once(None, 2 * 8192, CUDA, 1000) == 8192
    assert rows_at_once(None, 4 << 20, CPU, 1000) == 32
    assert rows_at_once(None, 4 << 20, CPU, 5) == 5
    assert rows_at_once(None, 4 << 20, CPU, 0) == 2


def test_a_given_budget_is_kept() -> None:
    assert rows_at_once(1000, 100, CPU, 1000) == 10
    assert rows_at_once(1, 100, CPU, 1000) == 1


@pytest.mark.parametrize("frames", [1, 7, 100, 2640])
@pytest.mark.parametrize("books", [1, 3, 16])
@pytest.mark.parametrize("rows", [1, 10, 256, 8192, 100_000])
def test_chunks_cover_all_once_within_the_budget(frames: int, books: int, rows: int) -> None:
    seen = torch.zeros(frames, books)
    chunks = 0
    for group in book_groups(books, frames, rows):
        for chunk in frame_chunks(frames, group.stop - group.start, rows):
            size = seen[chunk, group].numel()
            assert 0 < size <= rows
            seen[chunk, group] += 1
            chunks += 1
    assert seen.eq(1).all()
    assert chunks <= 2 * -(-frames * books // rows) + books


def test_chunks_are_even() -> None:
    sizes = [chunk.stop - chunk.start for chunk in frame_chunks(257, 1, 256)]
    assert sorted(sizes) == [128, 129]


def test_no_frames_need_no_chunk() -> None:
    assert list(frame_chunks(0, 2, 10)) == []
