from __future__ import annotations

import pytest
import torch

from components.augmentations.spec_augment import SpecAugment, random_spans
from core.errors import ConfigError


def test_identity_in_evaluation() -> None:
    features = torch.randn(2, 10, 8)
    assert SpecAugment().eval()(features, torch.tensor([10, 4])) is features


def test_masked_cells_are_whole_bins_or_whole_frames() -> None:
    torch.manual_seed(0)
    augment = SpecAugment(
        frequency_masks=1, frequency_width=5, time_masks=2, time_width=20, time_share=0.3
    )
    features = torch.ones(6, 50, 16)
    masked = augment(features, torch.full((6,), 50)) == 0
    bins, frames = masked.all(dim=1), masked.all(dim=2)
    assert torch.equal(masked, bins.unsqueeze(1) | frames.unsqueeze(2))
    assert bins.sum(1).max() <= 5
    assert frames.sum(1).max() <= 2 * 15
    assert bins.any()
    assert frames.any()
    assert not torch.equal(masked[0], masked[1])  # utterances have masks of their own


def test_spans_lie_inside_lengths_and_reach_every_width_and_both_ends() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([9, 4, 1, 0]).repeat(2000)
    widths = torch.tensor([3, 4, 0, 0]).repeat(2000)
    spans = random_spans(lengths, widths, 1, size=12).view(2000, 4, 12)
    sizes = spans.sum(-1)
    for row, (length, width) in enumerate(zip([9, 4, 1, 0], [3, 4, 0, 0], strict=True)):
        assert not spans[:, row, length:].any()
        counts = sizes[:, row].bincount(minlength=width + 1)
        assert len(counts) == width + 1
        assert (counts / 2000 - 1 / (width + 1)).abs().max() < 0.05  # uniform
        if width:
            assert spans[:, row, 0].any()
            assert spans[:, row, length - 1].any()


def test_time_masks_are_a_share_of_each_utterance() -> None:
    torch.manual_seed(0)
    augment = SpecAugment(frequency_masks=0, time_masks=1, time_width=100, time_share=0.1)
    lengths = torch.tensor([200, 30, 9]).repeat(300)
    frames = (augment(torch.ones(900, 200, 2), lengths) == 0)[..., 0].sum(1).view(300, 3)
    assert frames.max(dim=0).values.tolist() == [20, 3, 0]


def test_same_seed_gives_the_same_masks() -> None:
    features, lengths = torch.ones(2, 40, 8), torch.tensor([40, 30])
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(SpecAugment()(features, lengths))
    assert torch.equal(results[0], results[1])


def test_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="from 0 to 1, found 5"):
        SpecAugment(time_share=5)
