"""Cuts to batches, with a key that names the batch among all that a run will ever make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from lhotse.cut import Cut

from core.contracts import Batch
from core.data.audio import AudioError

Key: TypeAlias = tuple[int, ...]
"""Names a request: epoch and utterance numbers of a planned source; epoch, part, number of parts
and number of the batch in a stream. Evaluation has epoch 0 always."""


@runtime_checkable
class ReadsNoAudio(Protocol):
    """A collator that gets along with cuts without recordings."""

    needs_audio: Literal[False]


class Collate(Protocol):
    """Makes a batch of cuts; runs in loader workers.

    What it draws at random must be a pure function of its own seed and of ``key``. Then a batch
    does not depend on the number of workers, a resumed run sees what an uninterrupted one would
    have seen, and every validation sees the same.
    """

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key, /) -> Batch:
        """Load and pad. What cannot be used becomes an entry of the batch's ``skipped``."""
