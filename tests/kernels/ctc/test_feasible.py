from __future__ import annotations

import torch

from kernels.ctc.feasible import count_repeats, feasible


def test_each_target_and_each_repeat_takes_a_frame() -> None:
    targets = torch.tensor([[1, 1, 2], [1, 1, 2], [1, 2, 1]])
    lengths = torch.tensor([3, 3, 3])
    assert feasible(torch.tensor([4, 3, 3]), targets, lengths).tolist() == [True, False, True]


def test_what_lies_beyond_a_length_does_not_count() -> None:
    targets = torch.tensor([[1, 2, 2, 2], [3, 3, 3, 1]])
    inside = torch.arange(4) < torch.tensor([[2], [3]])
    assert count_repeats(targets, inside).tolist() == [0, 2]
    assert feasible(torch.tensor([2, 4]), targets, torch.tensor([2, 3])).tolist() == [True, False]


def test_no_targets_need_no_frames() -> None:
    empty, none = torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0])
    assert feasible(torch.tensor([0, 5]), empty, none).all()
