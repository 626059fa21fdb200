"""CTC prefix beam search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.decoders.alignment import as_hypothesis, forced_align
from components.losses.ctc import BLANK
from core.contracts import Hypothesis
from core.errors import ConfigError
from core.registry import register

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROOT = 0
_NONE = -1


@register("decoder", "prefix_beam")
class PrefixBeamDecoder:
    """Sum over alignments while keeping the most probable prefixes of each frame.

    The algorithm of Graves 2012 (section 7.5.3) and Hannun et al. 2014 (arXiv 1408.2873) without a
    language model, in float64 log probabilities. With enough beams and no threshold it is exact.
    It runs on the host, one utterance after another, and takes about T array operations on
    ``beam_size * V`` numbers.

    Scores are log probabilities of token sequences, over the alignments that stayed in the beam.
    Spans and token probabilities are those of the most probable path of each hypothesis.

    Args:
        beam_size: prefixes kept after each frame.
        token_threshold: probability below which a token does not extend prefixes in a frame, such
            as 1e-4; the best token of a frame always does. None tries every token.
    """

    def __init__(self, *, beam_size: int = 16, token_threshold: float | None = None) -> None:
        if beam_size < 1:
            raise ConfigError(
                f"decoder/prefix_beam: beam_size must be at least 1, but is {beam_size}"
            )
        if token_threshold is not None and not 0.0 < token_threshold < 1.0:
            raise ConfigError(
                "decoder/prefix_beam: token_threshold must lie between 0 and 1, or be None, but is "
                f"{token_threshold}"
            )
        self.beam_size = beam_size
        self.token_threshold = token_threshold

    def __call__(self, logits: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Return the best hypothesis of each utterance.

        Args:
            logits: (B, T, V), of any floating type; log probabilities will do.
            lengths: (B,) int64, valid frames.
        """
        return [found[0] for found in self.nbest(logits, lengths, count=1)]

    @torch.no_grad()
    def nbest(
        self, logits: Tensor, lengths: Tensor, *, count: int | None = None
    ) -> list[list[Hypothesis]]:
        """Return up to ``count`` hypotheses of each utterance, best first.

        Args:
            logits: (B, T, V).
            lengths: (B,) int64, valid frames.
            count: hypotheses of each utterance; None for all that are in the beam.
        """
        log_probs = logits.log_softmax(dim=-1, dtype=torch.float32).cpu().double()
        found = []
        for rows, length in zip(log_probs, lengths.tolist(), strict=True):
            best = self._search(rows[:length].numpy())[:count]
            found.append(
                [
                    as_hypothesis(forced_align(rows[:length], ids), score=score)
                    for ids, score in best
                ]
            )
        return found

    def _search(self, log_probs: Floats) -> list[tuple[tuple[int, ...], float]]:
        prefixes = _Prefixes()
        beam = _Beam.start()
        for frame in log_probs:
            beam = beam.advance(frame, self._candidates(frame), self.beam_size, prefixes)
        return [
            (prefixes.tokens(node), float(score))
            for node, score in zip(beam.nodes.tolist(), beam.totals, strict=True)
        ]

    def _candidates(self, frame: Floats) -> Ints:
        keep = np.ones(frame.shape, dtype=bool)
        if self.token_threshold is not None:
            keep = frame >= min(math.log(self.token_threshold), frame.max())
        keep[BLANK] = False
        return np.flatnonzero(keep)


@dataclass(slots=True)
class _Prefixes:
    """A tree of token sequences. One sequence has one node, also when it returns to the beam."""

    parents: list[int] = field(default_factory=lambda: [_NONE])
    last: list[int] = field(default_factory=lambda: [_NONE])
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def child(self, node: int, token: int) -> int:
        """Return the node of ``node`` extended by ``token``."""
        found = self.children.setdefault((node, token), len(self.parents))
        if found == len(self.parents):
            self.parents.append(node)
            self.last.append(token)
        return found

    def tokens(self, node: int) -> tuple[int, ...]:
        """Spell out a node."""
        reverse: list[int] = []
        while node != _ROOT:
            reverse.append(self.last[node])
            node = self.parents[node]
        return tuple(reversed(reverse))


@dataclass(frozen=True, slots=True)
class _Beam:
    """K prefixes, best first, with the log probability of their paths by the last symbol."""

    nodes: Ints
    parents: Ints
    last: Ints
    after_blank: Floats
    after_token: Floats

    @classmethod
    def start(cls) -> _Beam:
        """Return the beam before the first frame: the empty prefix."""
        none = np.array([_NONE])
        return cls(np.array([_ROOT]), none, none, np.zeros(1), np.full(1, -np.inf))

    @property
    def totals(self) -> Floats:
        """Log probability of each prefix."""
        return _logaddexp(self.after_blank, self.after_token)

    def advance(self, frame: Floats, tokens: Ints, size: int, prefixes: _Prefixes) -> _Beam:
        """Read one frame of (V,) log probabilities, extending by ``tokens``."""
        blank = self.totals + frame[BLANK]
        same = np.where(self.last == _NONE, -np.inf, self.after_token + frame[self.last])
        # A token equal to the last one is new only after a blank.
        repeated = self.last[:, None] == tokens
        before = np.where(repeated, self.after_blank[:, None], self.totals[:, None])
        extended = before + frame[tokens]
        # An extension that spells another prefix of the beam is added to that prefix.
        spelled, parent = np.nonzero(self.parents[:, None] == self.nodes)
        column, tried = _find(tokens, self.last[spelled])
        spelled, parent, column = spelled[tried], parent[tried], column[tried]
        same[spelled] = _logaddexp(same[spelled], extended[parent, column])
        extended[parent, column] = -np.inf

        chosen = _best(np.concatenate([_logaddexp(blank, same), extended.ravel()]), size)
        return self._select(chosen, blank, same, extended, tokens, prefixes)

    def _select(
        self,
        chosen: Ints,
        blank: Floats,
        same: Floats,
        extended: Floats,
        tokens: Ints,
        prefixes: _Prefixes,
    ) -> _Beam:
        """Gather ``chosen`` from the K prefixes as they are, then their (K, C) extensions."""
        kept = len(self.nodes)
        stays = chosen < kept
        flat = np.where(stays, 0, chosen - kept)
        source = np.where(stays, chosen, flat // max(len(tokens), 1))
        nodes = self.nodes[source]
        for slot in np.flatnonzero(~stays):
            token = int(tokens[flat[slot] % len(tokens)])
            nodes[slot] = prefixes.child(int(nodes[slot]), token)
        grown = extended.ravel()[flat] if extended.size else np.full(len(chosen), -np.inf)
        return _Beam(
            nodes=nodes,
            parents=np.array([prefixes.parents[node] for node in nodes]),
            last=np.array([prefixes.last[node] for node in nodes]),
            after_blank=np.where(stays, blank[source], -np.inf),
            after_token=np.where(stays, same[source], grown),
        )


def _logaddexp(left: Floats, right: Floats) -> Floats:
    return np.asarray(np.logaddexp(left, right), dtype=np.float64)


def _find(ordered: Ints, values: Ints) -> tuple[Ints, Any]:
    """Return the position of each value in ``ordered`` and whether it is there."""
    if not len(ordered):
        return np.zeros_like(values), np.zeros(values.shape, dtype=bool)
    position = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return position, ordered[position] == values


def _best(scores: Floats, size: int) -> Ints:
    """Return the indices of the ``size`` largest finite scores, best first, ties by index."""
    if len(scores) > size:
        finalists = np.flatnonzero(scores >= np.partition(scores, -size)[-size])
    else:
        finalists = np.arange(len(scores))
    finalists = finalists[scores[finalists] > -np.inf]
    return finalists[np.argsort(-scores[finalists], kind="stable")][:size]
