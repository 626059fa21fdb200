from __future__ import annotations

import torch

from components.models.token_stream import token_stream
from core.contracts.noisy import Padded


def test_a_written_out_example() -> None:
    tokens = Padded(
        values=torch.tensor([[7, 8, 99], [5, 6, 4], [99, 99, 99]]),
        lengths=torch.tensor([2, 3, 0]),
    )
    stream = token_stream(tokens, start=0, stop=1)
    assert stream.inputs.tolist() == [[0, 7, 8, 1, 1], [0, 5, 6, 4, 1], [0, 1, 1, 1, 1]]
    assert stream.targets.tolist() == [[7, 8, 1, 1, 1], [5, 6, 4, 1, 1], [1, 1, 1, 1, 1]]
    assert stream.mask.tolist() == [
        [True, True, True, False, False],
        [True, True, True, True, False],
        [True, False, False, False, False],
    ]
    assert stream.lengths.tolist() == [4, 5, 2]


def test_it_leaves_the_batch_as_it_is() -> None:
    values = torch.tensor([[3, 0]])
    token_stream(Padded(values=values, lengths=torch.tensor([1])), start=8, stop=9)
    assert values.tolist() == [[3, 0]]


def test_a_batch_without_tokens() -> None:
    empty = Padded(values=torch.zeros(2, 0, dtype=torch.int64), lengths=torch.tensor([0, 0]))
    stream = token_stream(empty, start=0, stop=1)
    assert stream.inputs.tolist() == [[0, 1], [0, 1]]
    assert stream.mask.tolist() == [[True, False], [True, False]]
