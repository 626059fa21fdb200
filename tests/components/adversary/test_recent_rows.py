from __future__ import annotations

import torch

from components.adversary.recent_rows import RecentRows


def recent(size: int) -> RecentRows:
    made = RecentRows(size=size)
    made.setup(dim=2)
    return made


def block(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.arange(first, last)
    return torch.stack([numbers, -numbers], dim=1).float(), numbers


def test_the_newest_rows_stay_with_their_classes() -> None:
    made = recent(5)
    assert [len(part) for part in made.rows()] == [0, 0]
    made.push(*block(0, 3))
    assert made.rows()[1].tolist() == [0, 1, 2]
    made.push(*block(3, 7))
    vectors, classes = made.rows()
    assert sorted(classes.tolist()) == [2, 3, 4, 5, 6]
    assert torch.equal(vectors, torch.stack([classes, -classes], dim=1).float())


def test_more_rows_than_there_is_room_for_keep_the_last() -> None:
    made = recent(4)
    made.push(*block(0, 11))
    assert sorted(made.rows()[1].tolist()) == [7, 8, 9, 10]
    made.push(*block(11, 12))
    assert sorted(made.rows()[1].tolist()) == [8, 9, 10, 11]


def test_it_is_all_in_the_state() -> None:
    made = recent(5)
    made.push(*block(0, 8))
    again = recent(5)
    again.load_state_dict(made.state_dict())
    for one in (made, again):
        one.push(*block(8, 10))
    assert torch.equal(made.rows()[0], again.rows()[0])
    assert torch.equal(made.rows()[1], again.rows()[1])
