from __future__ import annotations

import math

import pytest
import torch

from components.encoders.masks import attention_mask, valid_frames
from components.encoders.relative_attention import (
    PositionScores,
    RelativeAttention,
    attend,
    relative_positions,
    relative_shift,
)


def test_positions_are_sinusoids_of_falling_offsets() -> None:
    table = relative_positions(3, 4, torch.device("cpu"))
    assert table.shape == (6, 4)
    for row, offset in enumerate((2, 1, 0, -1, -2, -3)):
        slow = offset * 10000 ** (-2 / 4)
        expected = [math.sin(offset), math.cos(offset), math.sin(slow), math.cos(slow)]
        torch.testing.assert_close(table[row], torch.tensor(expected))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_shift_picks_the_column_of_each_offset(frames: int) -> None:
    scores = torch.randn(3, frames, 2 * frames, dtype=torch.float64, requires_grad=True)
    shifted = relative_shift(scores)
    for query in range(frames):
        for key in range(frames):
            column = frames - 1 - (query - key)
            assert torch.equal(shifted[:, query, key], scores[:, query, column])
    assert torch.autograd.gradcheck(relative_shift, (scores,))


def test_attention_equals_the_equation_written_as_loops() -> None:
    torch.manual_seed(0)
    dim, heads, frames, lengths = 8, 2, 5, [5, 3]
    attention = RelativeAttention(dim=dim, heads=heads, dropout=0.0).double()
    attention.content_bias.data.normal_()
    attention.position_bias.data.normal_()
    x = torch.randn(2, frames, dim, dtype=torch.float64)
    table = relative_positions(frames, dim, x.device).double()
    valid = valid_frames(torch.tensor(lengths), frames)
    got = attention(x, table, attention_mask(valid, (2, 1), torch.float64))

    width = dim // heads
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    projected = attention.position(table)
    for row, length in enumerate(lengths):
        for i in range(length):
            parts = []
            for head in range(heads):
                of = slice(head * width, (head + 1) * width)
                q = query[row, i, of]
                keys = [j for j in range(length) if -2 <= j - i <= 1]
                scores = [
                    (q + attention.content_bias[head]) @ key[row, j, of]
                    + (q + attention.position_bias[head]) @ projected[frames - 1 - (i - j), of]
                    for j in keys
                ]
                weights = (torch.stack(scores) / math.sqrt(width)).softmax(0)
                parts.append(sum(w * value[row, j, of] for w, j in zip(weights, keys, strict=True)))
            expected = attention.out(torch.cat(parts))
            torch.testing.assert_close(got[row, i], expected)


def test_cpu_path_equals_the_fused_operator() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 4, 8).unbind(0)
    bias = torch.randn(2, 3, 4, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    torch.testing.assert_close(attend(query, key, value, bias, drop=0.0), expected)


def test_dropout_leaves_the_mean() -> None:
    torch.manual_seed(0)
    query = torch.zeros(1, 2000, 2, 4)
    value = torch.ones(1, 2000, 2, 4)
    dropped = attend(query, query, value, torch.zeros(1, 2000, 2, 2), drop=0.5)
    assert set(dropped.unique().tolist()) == {0.0, 1.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)


def test_a_constant_on_the_score_gradients_of_a_query_is_taken_out() -> None:
    """It is what rounding leaves of a sum that is zero; positions would learn from it."""
    torch.manual_seed(0)
    rows = torch.randn(2, 3, 7, 4, dtype=torch.float64, requires_grad=True)
    projected = torch.randn(2, 14, 4, dtype=torch.float64, requires_grad=True)
    blocked = torch.arange(7) >= torch.tensor([7, 5, 2]).unsqueeze(1)
    mask = torch.zeros(3, 1, 7, dtype=torch.float64).masked_fill(blocked.unsqueeze(1), -1e4)
    grad = torch.randn(2, 3, 7, 7, dtype=torch.float64).masked_fill(blocked.unsqueeze(1), 0.0)
    seen = (~blocked).double().unsqueeze(1)
    zero_sum = grad - seen * grad.sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    scores = PositionScores.apply(rows, projected, mask)
    expected = torch.autograd.grad(scores, [rows, projected], zero_sum, retain_graph=True)
    found = torch.autograd.grad(scores, [rows, projected], zero_sum + 0.3 * seen)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, atol=1e-12, rtol=1e-12)
    # The oracle has no such rule: its gradient of zero-sum scores is the same.
    oracle = torch.stack(
        [
            torch.stack([projected[h][6 - i + torch.arange(7)] @ rows[h, b, i] for i in range(7)])
            for h in range(2)
            for b in range(3)
        ]
    ).view(2, 3, 7, 7)
    for left, right in zip(
        torch.autograd.grad(oracle, [rows, projected], zero_sum), expected, strict=True
    ):
        torch.testing.assert_close(left, right, atol=1e-12, rtol=1e-12)
