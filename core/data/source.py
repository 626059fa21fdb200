"""What a corpus must offer to be trained on (kind ``dataset``).

A source is named by a URI such as ``nemo:train.jsonl`` and constructed without touching the disk;
:meth:`Source.open` does the I/O. Utterances are Lhotse cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from lhotse.cut import Cut

from core.data.audio import AudioError

Seconds: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


@runtime_checkable
class Source(Protocol):
    """A corpus with random access: row ``i`` can be read without reading what comes before it.

    Sources travel to loader workers, by fork or by pickle, after :meth:`open`.
    """

    location: str
    """What follows the scheme in the URI; names the source in messages."""

    def open(self, cache_dir: Path | None) -> None:
        """Read or build the index. Raises DataError on a missing, empty or damaged manifest.

        Args:
            cache_dir: where derived files may be kept; None to keep none.
        """

    @property
    def fingerprint(self) -> str:
        """Digest of the manifest's content; another digest means other data."""

    @property
    def durations(self) -> Seconds:
        """(N,) seconds of each utterance, as the manifest declares or the header says.

        NaN where neither is known; such an utterance is left out of every split.
        """

    def cut(self, index: int) -> Cut:
        """Return utterance ``index`` with its recording and supervision.

        Raises AudioError if the audio must be looked at for this and cannot be used.
        """

    def texts(self) -> Iterator[str]:
        """Yield all transcripts in manifest order; utterances without one are left out."""

    def __len__(self) -> int: ...


@runtime_checkable
class StreamSource(Protocol):
    """A corpus that can only be read from its beginning; resume is by replay."""

    location: str

    def open(self, cache_dir: Path | None) -> None:
        """Check that the corpus is there. Raises DataError if it is not."""

    @property
    def fingerprint(self) -> str:
        """Digest of what identifies the corpus."""

    def cuts(
        self, *, epoch: int, shard: int, shards: int, seed: int | None
    ) -> Iterator[Cut | AudioError]:
        """Yield one of ``shards`` disjoint parts, which together are the whole corpus.

        The same arguments give the same cuts in the same order. Audio whose header cannot be read
        is yielded as the error that says so.

        Args:
            epoch: pass over the data; changes the order, never the membership.
            shard: part to yield, from 0.
            shards: number of parts.
            seed: of the order; None for the order in which the corpus is stored.
        """

    def texts(self) -> Iterator[str]:
        """Yield all transcripts; utterances without one are left out."""


@runtime_checkable
class Described(Protocol):
    """A source whose manifest tells of an utterance what is not in its audio."""

    def described(self, index: int) -> Cut:
        """Return utterance ``index`` without a recording: id, duration and supervision.

        Nothing but the manifest is looked at, so the audio need not be there.
        """


@runtime_checkable
class Noted(Protocol):
    """A source that has something to say in the run header."""

    def notes(self) -> list[str]:
        """Return lines, none where nothing is out of the ordinary."""


AnySource: TypeAlias = Source | StreamSource
