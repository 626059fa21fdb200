from __future__ import annotations

import pytest
import torch

from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from core.errors import ConfigError


def head(books: int) -> MultiSoftmaxHead:
    torch.manual_seed(0)
    made = MultiSoftmaxHead()
    made.setup(input_dim=6, codebook_size=9, num_books=books)
    return made.double()


@pytest.mark.parametrize("books", [1, 3])
def test_sum_over_counted_targets_is_that_of_log_softmax(books: int) -> None:
    layer, loss = head(books), MaskedPredictionLoss()
    hidden = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 9, (2, 7, books))
    counted = torch.tensor([[1, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 1]], dtype=torch.bool)
    output = loss(hidden, layer, targets, counted)
    log_probs = layer(hidden).log_softmax(-1)
    picked = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    expected = -picked[counted].sum()
    torch.testing.assert_close(output.total, expected)
    assert output.correct == (log_probs.argmax(-1) == targets)[counted].sum()
    found = torch.autograd.grad(output.total, [hidden, layer.weight, layer.bias])
    wanted = torch.autograd.grad(expected, [hidden, layer.weight, layer.bias])
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right)


def test_without_a_counted_target_loss_and_gradient_are_zero() -> None:
    layer, loss = head(2), MaskedPredictionLoss()
    hidden = torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.zeros(1, 4, 2, dtype=torch.int64)
    output = loss(hidden, layer, targets, torch.zeros(1, 4, dtype=torch.bool))
    output.total.backward()
    assert output.total.item() == 0.0
    assert output.correct.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_a_target_counts_from_seven_of_eight_masked_frames() -> None:
    mask = torch.zeros(1, 28, dtype=torch.bool)
    mask[0, 0:6] = True  # six of eight
    mask[0, 9:16] = True  # seven of eight
    mask[0, 16:24] = True  # all
    mask[0, 24:28] = True  # four real ones, and four that are padding
    assert MaskedPredictionLoss().counted(mask, stack=8).tolist() == [[False, True, True, False]]


def test_threshold_must_be_a_share() -> None:
    with pytest.raises(ConfigError, match=r"mask_threshold must be in \[0, 1\), found 1.0"):
        MaskedPredictionLoss(mask_threshold=1.0)
