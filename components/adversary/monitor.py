"""What can be said of speaker classifiers only over many batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.contracts import MetricSum

RECENT = 256
"""Mapped rows whose predictions are remembered."""
EXPECTED_HITS = 40
"""Hits that guessing would give within a block; half of them are then a 3 sigma event."""
MEMORY = 0.98
"""Share of the baseline's sums that a step keeps."""


class SpeakerMonitor(nn.Module):
    """Watches predictions over optimiser steps; all it remembers is in buffers.

    * ``speaker_chance``: 1 / n for n speakers.
    * ``speaker_unique``: distinct predictions of the least varied member among the last ``RECENT``
      mapped rows. One means that a classifier answers the same whatever it hears.
    * ``speaker_lift``: accuracy over chance, of the last complete block of ``EXPECTED_HITS * n``
      mapped rows. Well below 1, the representation misleads the classifiers instead of hiding.
    * ``speaker_baseline``: accuracy towards the end of pre-training, from then on.

    Those that are not known yet have count 0.

    Args:
        members: number of classifiers.
    """

    recent: Tensor
    written: Tensor
    block: Tensor
    lift: Tensor
    baseline: Tensor

    def __init__(self, *, members: int) -> None:
        super().__init__()
        self.num_speakers = 0
        self.register_buffer("recent", torch.full((members, RECENT), -1))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))
        self.register_buffer("block", torch.zeros(2))
        self.register_buffer("lift", torch.zeros(2))
        self.register_buffer("baseline", torch.zeros(2))

    def setup(self, *, num_speakers: int) -> None:
        """Take the number of speakers."""
        self.num_speakers = num_speakers

    @torch.no_grad()
    def update(self, predictions: Tensor, *, hits: Tensor, rows: int, pretraining: bool) -> None:
        """Take in an optimiser step.

        Args:
            predictions: (members, R) first choices of this rank's mapped rows.
            hits: members' mean number of right ones, over all ranks.
            rows: mapped rows of all ranks.
            pretraining: whether the step belongs to the baseline.
        """
        shown = predictions[:, -RECENT:]
        places = (self.written + torch.arange(shown.shape[1], device=shown.device)) % RECENT
        self.recent[:, places] = shown
        self.written += shown.shape[1]
        sums = torch.stack([hits, hits.new_tensor(float(rows))])
        if pretraining:
            self.baseline.mul_(MEMORY).add_(sums)
        self.block += sums
        if float(self.block[1]) >= EXPECTED_HITS * self.num_speakers:
            self.lift[0] = self.block[0] * self.num_speakers / self.block[1]
            self.lift[1] = 1.0
            self.block.zero_()

    def metrics(self) -> dict[str, MetricSum]:
        """Return what is known."""
        known = (self.written >= RECENT).float()
        varied = (self.recent.sort(1).values.diff(dim=1) != 0).sum(1) + 1
        return {
            "speaker_baseline": MetricSum(total=self.baseline[0], count=self.baseline[1]),
            "speaker_chance": MetricSum(total=1.0 / self.num_speakers, count=1.0),
            "speaker_lift": MetricSum(total=self.lift[0], count=self.lift[1]),
            "speaker_unique": MetricSum(total=varied.min() * known, count=known),
        }
