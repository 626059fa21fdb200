"""Rows for training, early stopping and testing of a probe, divided by utterance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import DataError

SHARES = (0.6, 0.2, 0.2)
"""Of utterances, for training, early stopping and testing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """(n,) int64 row numbers of each part; no utterance is in two of them."""

    train: Tensor
    stop: Tensor
    test: Tensor


def split(groups: Tensor, *, labels: Tensor | None, seed: int) -> Split:
    """Divide rows by utterance, each label as evenly as its utterances allow.

    Args:
        groups: (N,) int64 utterance of each row.
        labels: (N,) int64; those of an utterance's first row decide. None divides at random.
        seed: of the division.

    Raises:
        DataError: there are fewer than ten utterances.
    """
    names, rows = torch.unique(groups, return_inverse=True)
    if len(names) < 10:
        raise DataError(f"a probe needs at least 10 utterances, and there are {len(names)}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(names), generator=generator)
    if labels is not None:
        first = torch.full((len(names),), len(rows)).scatter_reduce_(
            0, rows, torch.arange(len(rows)), "amin"
        )
        kinds = labels[first][order]
        order = order[torch.argsort(kinds, stable=True)]
        place = _place_within(kinds.sort(stable=True).values, generator)
    else:
        place = (torch.arange(len(names)) + 0.5) / len(names)
    part = torch.empty(len(names), dtype=torch.int64)
    edges = torch.tensor([SHARES[0], SHARES[0] + SHARES[1]])
    part[order] = torch.bucketize(place, edges)
    of_row = part[rows]
    train, stop, test = (torch.nonzero(of_row == number).flatten() for number in range(3))
    return Split(train=train, stop=stop, test=test)


def _place_within(kinds: Tensor, generator: torch.Generator) -> Tensor:
    """Return where each item lies within its run of equal ``kinds``, in [0, 1).

    The runs are shifted at random, so that small classes fill all parts between them.
    """
    _, run, counts = torch.unique_consecutive(kinds, return_inverse=True, return_counts=True)
    starts = counts.cumsum(0) - counts
    shift = torch.rand(len(counts), generator=generator)[run]
    place: Tensor = (torch.arange(len(kinds)) - starts[run] + shift) / counts[run]
    return place
