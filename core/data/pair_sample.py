"""A choice of utterances from a pair manifest: bounded, and even over speakers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.data.npy import Indices
from core.data.pairs_index import PairIndex

PER_SPEAKER = 20
"""Utterances that a speaker shall have where there are more speakers than the limit serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Rows whose utterances are all different.

    Args:
        rows: row numbers, in a random order.
        speakers: that they are of.
        of_speakers: that had rows to choose from.
    """

    rows: Indices
    speakers: int
    of_speakers: int


def choose_utterances(
    index: PairIndex,
    rows: Indices,
    *,
    utterance: Callable[[int], str],
    limit: int,
    seed: int,
) -> Choice:
    """Draw rows, the speakers taking turns, until ``limit`` or until nobody has another utterance.

    Where there are too many speakers for ``PER_SPEAKER`` utterances each, so many are drawn that
    ``PER_SPEAKER`` rows of each, or what they have, make up the limit; those with that many come
    first. Only rows that come up are read, so the time depends on ``limit`` more than on the
    manifest.

    Args:
        index: of the manifest.
        rows: (N,) row numbers to choose from.
        utterance: tells a row's utterance by the row's number.
        limit: most rows.
        seed: of all draws.
    """
    rng = np.random.default_rng([seed, 7])
    of_row = np.asarray(index.speakers)[rows]
    counts = np.bincount(of_row) if rows.size else np.zeros(0, dtype=np.int64)
    present = np.flatnonzero(counts)
    chosen = rng.permutation(present)
    enough = counts[chosen] >= PER_SPEAKER
    chosen = np.concatenate([chosen[enough], chosen[~enough]])
    held = np.minimum(counts[chosen], PER_SPEAKER).cumsum()
    chosen = chosen[: max(int(np.searchsorted(held, limit)) + 1, 2)]
    wanted = np.zeros(counts.size, dtype=bool)
    wanted[chosen] = True
    queues = _queues(rng.permutation(rows[wanted[of_row]]), index)
    taken = _turns([queues[speaker] for speaker in chosen.tolist()], utterance, limit)
    return Choice(
        rows=rng.permutation(np.array(taken, dtype=np.int64)),
        speakers=len(chosen),
        of_speakers=len(present),
    )


def _queues(rows: Indices, index: PairIndex) -> dict[int, Indices]:
    """Return the rows of each speaker, in the order given."""
    speakers = np.asarray(index.speakers)[rows]
    order = np.argsort(speakers, kind="stable")
    names, starts = np.unique(speakers[order], return_index=True)
    parts = np.split(rows[order], starts[1:]) if len(names) else []
    return {int(name): part for name, part in zip(names, parts, strict=True)}


def _turns(queues: list[Indices], utterance: Callable[[int], str], limit: int) -> list[int]:
    """Return the rows of the first ``limit`` different utterances, one of each queue in turn."""
    taken: list[int] = []
    seen: set[str] = set()
    going = [iter(queue) for queue in queues]
    while going and len(taken) < limit:
        still = []
        for queue in going:
            row = next((int(row) for row in queue if utterance(int(row)) not in seen), None)
            if row is None:
                continue
            seen.add(utterance(row))
            taken.append(row)
            still.append(queue)
            if len(taken) == limit:
                break
        going = still
    return taken
