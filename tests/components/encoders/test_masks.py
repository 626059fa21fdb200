from __future__ import annotations

import torch

from components.encoders.masks import BLOCKED_SCORE, ContextStyle, attention_mask, valid_frames


def test_frames_inside_lengths_are_valid() -> None:
    valid = valid_frames(torch.tensor([0, 2, 3]), 3)
    assert valid.tolist() == [[False] * 3, [True, True, False], [True] * 3]


def test_padded_keys_are_blocked_for_every_query() -> None:
    mask = attention_mask(valid_frames(torch.tensor([1, 2]), 2), None, torch.float32)
    assert mask.tolist() == [[[0.0, BLOCKED_SCORE]], [[0.0, 0.0]]]


def test_context_is_a_band_with_left_and_right_apart() -> None:
    mask = attention_mask(valid_frames(torch.tensor([4]), 4), (2, 0), torch.float32)
    assert (mask[0] == 0).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 1, 1, 1],
    ]


def seen(context: tuple[int, int], style: ContextStyle) -> list[list[int]]:
    valid = valid_frames(torch.tensor([5]), 5)
    mask = attention_mask(valid, context, torch.float32, style)
    return (mask[0] == 0).int().tolist()  # type: ignore[no-any-return]


def test_chunks_see_themselves_and_whole_chunks_back() -> None:
    assert seen((2, 1), "chunked_limited") == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_minus_one_lifts_the_limit_of_a_side() -> None:
    assert seen((-1, 0), "regular") == [[1] * (i + 1) + [0] * (4 - i) for i in range(5)]
    assert seen((1, -1), "regular") == seen((1, -1), "chunked_limited")
    assert seen((1, -1), "regular")[3] == [0, 0, 1, 1, 1]
    assert seen((-1, 1), "chunked_limited")[2:4] == [[1, 1, 1, 1, 0]] * 2
    assert seen((-1, 1), "chunked_limited")[4] == [1] * 5


def test_blocked_weight_is_exactly_zero_in_every_dtype() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        scores = torch.tensor([30.0, -30.0 + BLOCKED_SCORE], dtype=dtype)
        assert scores.isfinite().all()
        assert scores.softmax(0).tolist() == [1.0, 0.0]
