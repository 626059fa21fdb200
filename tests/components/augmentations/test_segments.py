from __future__ import annotations

import random

import pytest
import torch

from components.augmentations.segments import Segmentation, place, repeated, split, stretch


@pytest.mark.parametrize("form", ["break_points", "multinomial"])
@pytest.mark.parametrize(("samples", "pieces"), [(1, 1), (1, 5), (3, 5), (100, 4), (5000, 1)])
def test_pieces_add_up_and_none_is_empty(form: Segmentation, samples: int, pieces: int) -> None:
    for seed in range(30):
        sizes = split(samples, pieces, random.Random(seed), form=form)
        assert sum(sizes) == samples
        assert min(sizes) >= 1
        assert 1 <= len(sizes) <= pieces
        if form == "break_points":
            assert len(sizes) == min(pieces, samples)


def test_break_points_give_pieces_of_any_length() -> None:
    shares = [split(1000, 2, random.Random(s), form="break_points")[0] for s in range(300)]
    assert min(shares) < 50
    assert max(shares) > 950
    assert sum(shares) / 300 == pytest.approx(500, abs=50)


def test_short_audio_is_repeated_from_its_beginning() -> None:
    assert repeated(torch.tensor([1, 2, 3]), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert repeated(torch.tensor([1, 2, 3]), 2).tolist() == [1, 2]
    assert stretch(torch.tensor([1, 2]), 5, random.Random(0)).tolist() == [1, 2, 1, 2, 1]


def test_a_stretch_of_long_audio_begins_anywhere() -> None:
    audio = torch.arange(50)
    starts = {int(stretch(audio, 45, random.Random(seed))[0]) for seed in range(100)}
    assert starts == {0, 1, 2, 3, 4}


def test_parts_keep_their_order_and_do_not_meet() -> None:
    parts = [torch.full((3,), 1.0), torch.full((2,), 2.0), torch.full((4,), 3.0)]
    firsts = set()
    for seed in range(100):
        placed = place(parts, 15, random.Random(seed))
        assert placed[placed != 0].tolist() == torch.cat(parts).tolist()
        firsts.add(int(placed.nonzero()[0]))
    assert firsts == {0, 1, 2, 3, 4, 5}
    assert place(parts, 9, random.Random(0)).tolist() == torch.cat(parts).tolist()
