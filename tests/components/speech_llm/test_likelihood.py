from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from components.speech_llm.likelihood import PIECE, answer_likelihood


@pytest.mark.parametrize("count", [1, PIECE, 2 * PIECE + 3])
def test_it_is_the_summed_cross_entropy_with_its_gradient(count: int) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 50, bias=False).requires_grad_(False)
    hidden = torch.randn(count, 8, requires_grad=True)
    labels = torch.randint(50, (count,))
    logits = head(hidden)
    expected = F.cross_entropy(logits, labels, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, hidden)
    total, correct = answer_likelihood(hidden, head, labels)
    (found,) = torch.autograd.grad(total, hidden)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(found, wanted)
    assert int(correct) == int((logits.argmax(-1) == labels).sum())


def test_sums_are_in_float32_and_logits_never_all_there() -> None:
    widest = 0

    class Head(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            nonlocal widest
            widest = max(widest, hidden.shape[0])
            return hidden @ torch.ones(4, 9, dtype=hidden.dtype)

    hidden = torch.zeros(3 * PIECE, 4, dtype=torch.bfloat16, requires_grad=True)
    total, _ = answer_likelihood(hidden, Head(), torch.zeros(3 * PIECE, dtype=torch.int64))
    total.backward()
    assert total.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(3 * PIECE * torch.tensor(9.0).log().item())
    assert widest == PIECE
