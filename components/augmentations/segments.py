"""Where in an utterance, and in how many parts, something is mixed in."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Segmentation: TypeAlias = Literal["break_points", "multinomial"]


def split(samples: int, pieces: int, rng: random.Random, *, form: Segmentation) -> list[int]:
    """Return lengths of 1 or more that add up to ``samples``, at most ``pieces`` of them.

    Args:
        samples: to divide, at least 1.
        pieces: wanted; fewer where there are not enough samples.
        rng: of the division.
        form: ``break_points`` cuts at distinct uniform points. ``multinomial`` puts each sample
            into a piece of its own choice.
    """
    if form == "multinomial":
        return list(Counter(rng.choices(range(pieces), k=samples)).values())
    points = sorted(rng.sample(range(1, samples), min(pieces, samples) - 1))
    return [end - start for start, end in zip([0, *points], [*points, samples], strict=True)]


def repeated(audio: Tensor, samples: int) -> Tensor:
    """Return (samples,) of (N,) audio, said again from its beginning as often as is needed."""
    return audio.repeat(-(-samples // max(1, audio.numel())))[:samples]


def stretch(audio: Tensor, samples: int, rng: random.Random) -> Tensor:
    """Return (samples,) of (N,) audio from a random place; shorter audio is repeated."""
    start = _start(audio.numel() - samples, rng)
    return repeated(audio[start : start + samples], samples)


def place(parts: Sequence[Tensor], samples: int, rng: random.Random) -> Tensor:
    """Return (samples,) zeros with ``parts`` in their order at random places, none over another."""
    placed = torch.zeros(samples, dtype=parts[0].dtype)
    slack, end = samples - sum(part.numel() for part in parts), 0
    for part in parts:
        gap = _start(slack, rng)
        placed[end + gap : end + gap + part.numel()] = part
        slack, end = slack - gap, end + gap + part.numel()
    return placed


def _start(slack: int, rng: random.Random) -> int:
    return rng.randrange(slack) if slack > 0 else 0
