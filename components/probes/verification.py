"""Whether two utterances of speakers never trained on can be told to be of one person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from components.probes.classification import checked
from core.errors import DataError

PAIRS = 200_000
"""Pairs of each kind, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Equal error rate of a verifier that compares cosines: 0.5 tells nothing, 0 everything.

    Args:
        eer: share of errors where false acceptances are as frequent as false rejections.
        speakers: their number.
        same: pairs of one speaker.
        other: pairs of two.
    """

    eer: float
    speakers: int
    same: int
    other: int

    def as_dict(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        return {
            "eer": self.eer,
            "speakers": self.speakers,
            "same_pairs": self.same,
            "other_pairs": self.other,
        }


def open_set_verification(
    features: Tensor, speakers: Tensor, *, groups: Tensor | None = None, seed: int = 0
) -> Verification:
    """Compare utterances of unseen speakers by the cosine of their centred features.

    Features are centred on their mean, because a direction that all of them share would hide every
    difference. Two rows of one utterance are no pair.

    Args:
        features: (N, D).
        speakers: (N,) int64, none of whom the model or a probe was trained on.
        groups: (N,) int64 utterance of each row; None where each row is one.
        seed: of the choice of pairs, where there are more than ``PAIRS`` of a kind.

    Raises:
        DataError: there is no pair of one of the kinds.
    """
    x, groups = checked(features, groups)
    names, y = torch.unique(speakers.cpu(), return_inverse=True)
    unit = F.normalize(x - x.mean(0), dim=1)
    generator = torch.Generator().manual_seed(seed)
    same = _same_pairs(y, groups, generator)
    other = _other_pairs(y, groups, generator)
    if not len(same) or not len(other):
        raise DataError(
            f"verification needs pairs of utterances of one speaker and of two; of "
            f"{len(names)} speaker(s) and {len(x)} rows there are {len(same)} and {len(other)}"
        )
    scores = [_cosines(unit, pairs) for pairs in (same, other)]
    return Verification(
        eer=equal_error_rate(*scores), speakers=len(names), same=len(same), other=len(other)
    )


def equal_error_rate(same: Tensor, other: Tensor) -> float:
    """Return where the rates of false rejections and false acceptances cross.

    Args:
        same: (P,) scores of pairs that belong together.
        other: (Q,) scores of those that do not.
    """
    scores, order = torch.cat([same, other]).double().sort()
    together = torch.cat([torch.ones_like(same), torch.zeros_like(other)]).double()[order]
    # A threshold lies behind a whole run of equal scores.
    last = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool)])
    zero = torch.zeros(1, dtype=torch.float64)
    rejected = torch.cat([zero, together.cumsum(0)[last] / len(same)])
    accepted = torch.cat([zero, (1.0 - together).cumsum(0)[last] / len(other)])
    accepted = 1.0 - accepted
    after = int(torch.nonzero(rejected >= accepted)[0])
    before = max(after - 1, 0)
    first, second = accepted[before] - rejected[before], rejected[after] - accepted[after]
    share = first / (first + second) if float(first + second) > 0 else zero[0]
    return float(rejected[before] + share * (rejected[after] - rejected[before]))


def _cosines(unit: Tensor, pairs: Tensor) -> Tensor:
    parts = [(unit[chunk[:, 0]] * unit[chunk[:, 1]]).sum(1) for chunk in pairs.split(8192)]
    return torch.cat(parts)


def _same_pairs(speakers: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Return (P, 2) rows of one speaker, of different utterances."""
    order = speakers.argsort(stable=True)
    found = []
    for rows in order.split(torch.bincount(speakers).tolist()):
        pairs = torch.combinations(rows) if len(rows) <= 600 else _draw(rows, 180_000, generator)
        found.append(pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]])
    return _at_most(torch.cat(found), generator)


def _other_pairs(speakers: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Return (Q, 2) rows of two speakers."""
    rows = torch.arange(len(speakers))
    pairs = torch.combinations(rows) if len(rows) <= 1500 else _draw(rows, 2 * PAIRS, generator)
    apart = (speakers[pairs[:, 0]] != speakers[pairs[:, 1]]) & (
        groups[pairs[:, 0]] != groups[pairs[:, 1]]
    )
    return _at_most(pairs[apart], generator)


def _draw(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (count, 2), generator=generator)]


def _at_most(pairs: Tensor, generator: torch.Generator) -> Tensor:
    if len(pairs) <= PAIRS:
        return pairs
    return pairs[torch.randperm(len(pairs), generator=generator)[:PAIRS]]
