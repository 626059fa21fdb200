from __future__ import annotations

import math

import pytest
import torch

from components.metrics.codebook_use import CodebookUse


def build(books: int = 1) -> CodebookUse:
    use = CodebookUse()
    use.setup(num_books=books, codebook_size=8)
    return use


def test_perplexity_is_that_of_the_distribution_averaged_over_books() -> None:
    use = build(books=2)
    first = torch.tensor([0, 1, 2, 3])  # four codes in equal use
    second = torch.tensor([5, 5, 5, 6])
    use.update(torch.stack([first, second], -1).unsqueeze(0), torch.ones(1, 4, dtype=torch.bool))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert use.perplexity().item() == pytest.approx((4 + math.exp(entropy)) / 2)


def test_padding_is_not_counted_and_old_batches_fade() -> None:
    use = build()
    targets = torch.tensor([[[0], [1], [2]]])
    use.update(targets, torch.tensor([[True, True, False]]))
    assert use.histogram.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0]]
    for _ in range(2000):
        use.update(torch.tensor([[[7]]]), torch.ones(1, 1, dtype=torch.bool))
    assert use.perplexity().item() == pytest.approx(1.0, abs=1e-3)


def test_perplexity_of_nothing_is_one() -> None:
    assert build().perplexity().item() == 1.0
