"""Forced alignment of a known token sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torchaudio.functional import forced_align as viterbi

from components.losses.ctc import BLANK
from core.errors import DataError


class TokenSpan(NamedTuple):
    """Where one token of an aligned sequence lies.

    Args:
        token: id.
        start: first frame.
        end: frame after the last one.
        probability: geometric mean of the token's posteriors over its frames.
    """

    token: int
    start: int
    end: int
    probability: float


@torch.no_grad()
def forced_align(
    log_probs: Tensor, targets: Sequence[int], *, blank: int = BLANK
) -> list[TokenSpan]:
    """Find the most probable CTC path that spells ``targets``.

    Args:
        log_probs: (T, V) log posteriors of one utterance, without padding.
        targets: token ids, without blanks; may be empty.
        blank: id of the blank.

    Returns:
        One span for each target, in order and without overlap. CTC posteriors are spiky: a span is
        where the model emits a token, not how long its sound lasts.

    Raises:
        DataError: the frames cannot hold the targets, an id is blank or not in the vocabulary, or
            all paths have probability 0.
    """
    tokens = [int(token) for token in targets]
    if not tokens:
        return []
    log_probs = log_probs.detach().to(device="cpu", dtype=torch.float64).contiguous()
    frames, vocab = log_probs.shape
    _check(tokens, frames=frames, vocab=vocab, blank=blank)
    labels, scores = viterbi(log_probs[None], torch.tensor([tokens]), blank=blank)
    path: list[int] = labels[0].tolist()
    values: list[float] = scores[0].tolist()
    if not math.isfinite(sum(values)):
        raise DataError("cannot align: every path through the targets has probability 0")
    changes = [frame for frame in range(1, frames) if path[frame] != path[frame - 1]]
    return [
        TokenSpan(path[start], start, end, math.exp(sum(values[start:end]) / (end - start)))
        for start, end in pairwise([0, *changes, frames])
        if path[start] != blank
    ]


def _check(tokens: Sequence[int], *, frames: int, vocab: int, blank: int) -> None:
    for position, token in enumerate(tokens):
        if token == blank or not 0 <= token < vocab:
            kind = "the blank" if token == blank else f"not in 0..{vocab - 1}"
            raise DataError(f"cannot align: target {position} is {token}, which is {kind}")
    repeats = sum(before == after for before, after in pairwise(tokens))
    if frames < len(tokens) + repeats:
        raise DataError(
            f"cannot align {len(tokens)} targets to {frames} frames: CTC needs a frame for each "
            f"target and one between equal neighbours, {len(tokens) + repeats} in all"
        )
