"""In which order the rows of a pair manifest are trained on: a pure function of row numbers.

A manifest is cut into blocks of consecutive rows and only a block is shuffled. What has been
consumed is then always whole blocks and a part of one, whatever the batch size, and rows that are
appended later can change nothing before them. A block that ends where the rows ended for the time
being keeps that end; the next block begins there.

Inside a block, rows of similar length form buckets, and buckets are shuffled. A batch that is a
divisor of the bucket has little padding; any other is as valid. With ``rows_per_speaker`` K above
1, a bucket is made of runs of K rows of one speaker each, the runs of different speakers where the
block has enough of them, so that a batch of P x K rows has K rows of each of P speakers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.data.npy import Array, Indices
from core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOptions:
    """How rows are shuffled.

    Args:
        block: rows that are shuffled together.
        bucket: rows of similar length that stay together.
        rows_per_speaker: rows of one speaker that stay together.
        jitter: share by which a length may vary when rows are sorted by it.
    """

    block: int = 16384
    bucket: int = 256
    rows_per_speaker: int = 1
    jitter: float = 0.05

    def __post_init__(self) -> None:
        if self.block < 1 or self.bucket < 1 or self.rows_per_speaker < 1:
            raise ConfigError(
                "speech_pairs: block, bucket and rows_per_speaker must be at least 1, found "
                f"{self.block}, {self.bucket} and {self.rows_per_speaker}"
            )
        if self.bucket % self.rows_per_speaker:
            raise ConfigError(
                f"speech_pairs: a bucket of {self.bucket} rows does not hold whole runs of "
                f"rows_per_speaker={self.rows_per_speaker}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far an epoch is: ``taken`` rows of the block ``start`` to ``end``, all rows before it."""

    start: int = 0
    end: int = 0
    taken: int = 0

    @property
    def row(self) -> int:
        """Rows consumed so far."""
        return self.start + self.taken

    def within(self, rows: int, block: int) -> Place:
        """Return the place in a block that is not used up, if ``rows`` leave any to begin."""
        if self.taken < self.end - self.start or self.end >= rows:
            return self
        return Place(start=self.end, end=min(self.end + block, rows))

    def after(self, count: int) -> Place:
        """Return the place ``count`` rows of the same block later."""
        return replace(self, taken=self.taken + count)


def block_order(
    lengths: Array, speakers: Array, options: OrderOptions, *, seed: int, epoch: int, place: Place
) -> Indices:
    """Return the row numbers of a block in training order.

    Args:
        lengths: (N,) of all rows.
        speakers: (N,) of all rows.
        options: how rows are shuffled.
        seed: of the run.
        epoch: of the pass.
        place: names the block.
    """
    rng = np.random.default_rng([seed, epoch, place.start, place.end])
    length = np.asarray(lengths[place.start : place.end], dtype=np.float64)
    length = length * (1.0 + options.jitter * rng.uniform(-1.0, 1.0, size=length.size))
    if options.rows_per_speaker == 1:
        buckets = _cut(np.argsort(length, kind="stable"), options.bucket)
    else:
        buckets = _speaker_buckets(length, speakers[place.start : place.end], options, rng)
    order = [buckets[i] for i in rng.permutation(len(buckets))]
    rows: Indices = place.start + np.concatenate(order)
    return rows


def _speaker_buckets(
    length: Array, speakers: Array, options: OrderOptions, rng: np.random.Generator
) -> list[Indices]:
    """Return buckets of whole runs of one speaker, then buckets of what fills no run.

    The n-th runs of all speakers make up a round; a bucket is cut from one round, and so has no
    speaker twice, as long as there are enough speakers.
    """
    each = options.rows_per_speaker
    shuffled = rng.permutation(length.size)
    by_speaker = shuffled[np.argsort(np.asarray(speakers)[shuffled], kind="stable")]
    _, first, counts = np.unique(
        np.asarray(speakers)[by_speaker], return_index=True, return_counts=True
    )
    number = np.arange(length.size) - np.repeat(first, counts)
    whole = number < np.repeat(counts - counts % each, counts)
    runs = by_speaker[whole].reshape(-1, each)
    rounds = number[whole].reshape(-1, each)[:, 0] // each
    runs = runs[np.lexsort((length[runs].mean(axis=1), rounds))]
    rest = by_speaker[~whole]
    rest = rest[np.argsort(length[rest], kind="stable")]
    return [
        *(bucket.reshape(-1) for bucket in _cut(runs, options.bucket // each)),
        *_cut(rest, options.bucket),
    ]


def _cut(rows: Any, size: int) -> list[Indices]:  # noqa: ANN401
    return [rows[start : start + size] for start in range(0, len(rows), size)]
