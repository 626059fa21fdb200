from __future__ import annotations

import pytest
import torch

from components.probes.splits import split
from core.errors import DataError


def test_no_utterance_is_in_two_parts_and_labels_are_in_all() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 200, (1000,), generator=generator)
    labels = groups % 7
    parts = split(groups, labels=labels, seed=1)
    sets = [set(groups[rows].tolist()) for rows in (parts.train, parts.stop, parts.test)]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    rows = torch.cat([parts.train, parts.stop, parts.test]).sort().values
    assert torch.equal(rows, torch.arange(1000))
    for part, share in zip((parts.train, parts.stop, parts.test), (0.6, 0.2, 0.2), strict=True):
        # By utterances, of which each label has about 28.
        counts = torch.bincount(torch.unique(groups[part]) % 7, minlength=7)
        whole = torch.bincount(torch.unique(groups) % 7, minlength=7)
        assert ((counts - share * whole).abs() < 1.0).all()


def test_classes_of_one_utterance_spread_over_the_parts() -> None:
    parts = split(torch.arange(500), labels=torch.arange(500), seed=0)
    assert len(parts.train) == pytest.approx(300, abs=40)
    assert len(parts.test) == pytest.approx(100, abs=30)


def test_seeds_divide_otherwise_and_one_seed_the_same() -> None:
    groups, labels = torch.arange(100), torch.arange(100) % 3
    one, again, other = (split(groups, labels=labels, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.test, again.test)
    assert not torch.equal(one.test, other.test)


def test_too_few_utterances_are_refused() -> None:
    with pytest.raises(DataError, match="at least 10 utterances, and there are 3"):
        split(torch.tensor([0, 1, 2] * 10), labels=None, seed=0)
