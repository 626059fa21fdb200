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
from core.contracts import Hypothesis
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
    if not len(targets):
        return []
    path, scores = _best_path(log_probs, targets, blank=blank)
    edges = [frame for frame in range(1, len(path)) if path[frame] != path[frame - 1]]
    return [
        TokenSpan(path[start], start, end, math.exp(sum(scores[start:end]) / (end - start)))
        for start, end in pairwise([0, *edges, len(path)])
        if path[start] != blank
    ]


def align_batch(
    log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
) -> list[Hypothesis]:
    """Align each utterance of a padded batch with its targets.

    Args:
        log_probs: (B, T, V) log posteriors.
        lengths: (B,) int64, valid frames.
        targets: (B, U) int64 ids, without blanks.
        target_lengths: (B,) int64, valid targets.

    Returns:
        The targets with their spans; ``score`` sums the logarithms of the token probabilities.

    Raises:
        DataError: as :func:`forced_align`; the message gives the utterance's place in the batch.
    """
    found = []
    frames, sizes = lengths.tolist(), target_lengths.tolist()
    for row, (scores, ids) in enumerate(zip(log_probs.cpu(), targets.tolist(), strict=True)):
        try:
            spans = forced_align(scores[: frames[row]], ids[: sizes[row]])
        except DataError as error:
            raise DataError(f"utterance {row} of the batch: {error}") from error
        score = sum(math.log(span.probability) for span in spans)
        found.append(as_hypothesis(spans, score=score))
    return found


def as_hypothesis(spans: Sequence[TokenSpan], *, score: float) -> Hypothesis:
    """Turn the spans of a whole sequence into a hypothesis."""
    return Hypothesis(
        ids=tuple(span.token for span in spans),
        starts=tuple(span.start for span in spans),
        ends=tuple(span.end for span in spans),
        probabilities=tuple(span.probability for span in spans),
        score=score,
    )


def _best_path(
    log_probs: Tensor, targets: Sequence[int], *, blank: int
) -> tuple[list[int], list[float]]:
    """Return the label of each frame and its log probability."""
    log_probs = log_probs.to(device="cpu", dtype=torch.float64).contiguous()
    frames, vocab = log_probs.shape
    _check(targets, frames=frames, vocab=vocab, blank=blank)
    labels, scores = viterbi(log_probs[None], torch.tensor([list(targets)]), blank=blank)
    values: list[float] = scores[0].tolist()
    if not math.isfinite(sum(values)):
        raise DataError("cannot align: every path through the targets has probability 0 or NaN")
    return labels[0].tolist(), values


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
