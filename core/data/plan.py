"""Which utterances share a batch: a pure function of durations, options, seed and epoch.

The list of batches of an epoch does not depend on the number of ranks. Rank ``r`` of ``W`` takes
batches ``r``, ``W + r``, ``2W + r`` and so on, so ``W`` ranks see in one step what one process sees
in ``W`` micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from core.data.source import Seconds

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """How batches are cut.

    Args:
        batch_seconds: most seconds of a batch, padding included.
        max_utterances: most utterances of a batch; None for no limit.
        jitter: share by which a length may vary when utterances are sorted by length. It decides
            which of similar utterances meet, and about this share of a batch is padding.
        drop_last: leave out, each epoch others, as many utterances of training as would be left
            over from batches of ``max_utterances``, and the batches that not every rank has.
    """

    batch_seconds: float
    max_utterances: int | None = None
    jitter: float = 0.02
    drop_last: bool = False


def plan_epoch(durations: Seconds, options: PlanOptions, *, seed: int, epoch: int) -> list[Indices]:
    """Return the batches of one epoch, each utterance once, in training order.

    The result is the same on every rank and for every number of ranks. Utterances are sorted by
    jittered duration and cut where one more would exceed a limit; then the batches are shuffled.

    Raises:
        ValueError: if an utterance alone is longer than a batch.
    """
    if durations.size and float(durations.max()) > options.batch_seconds + _ROUNDING:
        raise ValueError(
            f"an utterance of {float(durations.max()):.2f} s does not fit "
            f"batch_seconds={options.batch_seconds}"
        )
    return plan_batches(durations, options, rng=np.random.default_rng([seed, epoch]))


def plan_batches(
    durations: Seconds, options: PlanOptions, *, rng: np.random.Generator
) -> list[Indices]:
    """Return shuffled batches of similar lengths; jitter and order are drawn from ``rng``."""
    factors = 1.0 + options.jitter * rng.uniform(-1.0, 1.0, size=durations.size)
    order = np.argsort(durations * factors, kind="stable")
    if options.drop_last and options.max_utterances:
        left_over = rng.permutation(durations.size)[: durations.size % options.max_utterances]
        order = order[~np.isin(order, left_over)]
    batches = _cut(order, durations, options)
    return [batches[i] for i in rng.permutation(len(batches))]


def plan_evaluation(durations: Seconds, options: PlanOptions) -> list[Indices]:
    """Return batches in a fixed order, longest utterances first, each utterance once.

    An utterance longer than a batch has one of its own: evaluation leaves nothing out.
    """
    return _cut(np.argsort(durations, kind="stable"), durations, options)[::-1]


def shard_epoch(
    batches: Sequence[Indices],
    durations: Seconds,
    *,
    rank: int,
    world_size: int,
    drop_last: bool = False,
) -> tuple[list[Indices], int]:
    """Return the batches of one rank, as many as every other rank gets, and the utterances lost.

    Where the last group has fewer batches than ranks, its batches are halved until there is one
    for each rank. Utterances are lost only if that group has fewer of them than there are ranks,
    or with ``drop_last``, which leaves that group out.
    """
    full = len(batches) // world_size * world_size
    mine = [batches[i] for i in range(rank, full, world_size)]
    tail = [] if drop_last else _split(batches[full:], durations, world_size)
    if tail:
        return [*mine, tail[rank]], 0
    return mine, sum(batch.size for batch in batches[full:])


def occupied_seconds(durations: Seconds, *, least: float, chunk: float) -> Seconds:
    """Return the (N,) seconds that utterances take up in a batch.

    Args:
        durations: (N,) seconds.
        least: that any takes up.
        chunk: seconds of the chunks that audio is cut into, the last one padded; 0 for none.
    """
    taken = np.maximum(durations, np.float32(least))
    if not chunk:
        return taken
    # A length that was rounded up must not cost a chunk.
    chunks: Seconds = np.ceil(taken / np.float32(chunk) - np.float32(1e-5))
    return chunks.clip(min=1) * np.float32(chunk)


def padding_share(batches: Sequence[Indices], durations: Seconds) -> float:
    """Return the share of all planned seconds that is padding."""
    padded = sum(batch.size * float(durations[batch].max()) for batch in batches)
    real = sum(float(durations[batch].sum(dtype=np.float64)) for batch in batches)
    return 1.0 - real / padded if padded > 0 else 0.0


def _cut(order: Indices, durations: Seconds, options: PlanOptions) -> list[Indices]:
    """Cut an order of utterances into runs within the limits."""
    most = options.max_utterances or len(order)
    limit = options.batch_seconds + _ROUNDING
    batches: list[Indices] = []
    start, longest = 0, 0.0
    for position, seconds in enumerate(durations[order].tolist()):
        longest = max(longest, seconds)
        count = position - start + 1
        if count > 1 and (count * longest > limit or count > most):
            batches.append(order[start:position])
            start, longest = position, seconds
    if start < len(order):
        batches.append(order[start:])
    return batches


def _split(tail: Sequence[Indices], durations: Seconds, parts: int) -> list[Indices]:
    """Halve the largest batches until there are ``parts``; empty if that cannot be."""
    if not tail or sum(batch.size for batch in tail) < parts:
        return []
    pieces = [batch[np.argsort(durations[batch], kind="stable")] for batch in tail]
    while len(pieces) < parts:
        largest = max(
            range(len(pieces)),
            key=lambda i: (pieces[i].size > 1, pieces[i].size * durations[pieces[i]].max()),
        )
        piece = pieces.pop(largest)
        pieces += [piece[: piece.size // 2], piece[piece.size // 2 :]]
    return pieces
