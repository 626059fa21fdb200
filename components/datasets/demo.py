"""A corpus that the machine speaks itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lhotse import AudioSource, Recording, SupervisionSegment
from lhotse.cut import MonoCut

from components.datasets.demo_corpus import (
    DEFAULT_UTTERANCES,
    MANIFEST,
    DemoParameters,
    ensure,
    rows,
)
from components.datasets.espeak_worker import SAMPLE_RATE
from core.data.cache import default_cache
from core.data.source import Seconds
from core.errors import ConfigError, DataError, suggest
from core.registry import register


@register("dataset", "demo")
class DemoSource:
    """Short sentences spoken by eSpeak NG, so that a first training needs no download.

    The sentences come from a small grammar (about ninety words). Speakers of ``train``,
    ``validation`` and ``test`` are disjoint, and so are their sentences. A seed gives the same
    bytes on every run. The corpus is made once, in seconds, and kept in the cache.

    eSpeak NG comes with the wheel ``espeakng-loader`` (extra ``sori[demo]``). It is licensed under
    GPL-3.0-or-later, is opened only in a separate process, and is not part of this project.

    Args:
        location: the split: ``train``, ``validation`` or ``test``.
        language: ``en`` (American, English and Scottish accents) or ``ko``.
        utterances: how many; None for 2,400, 120 and 160.
        seed: of sentences, voices, rates, pitches and levels.
    """

    def __init__(
        self,
        *,
        location: str = "train",
        language: Literal["en", "ko"] = "en",
        utterances: int | None = None,
        seed: int = 0,
    ) -> None:
        if location not in DEFAULT_UTTERANCES:
            hint = suggest(location, DEFAULT_UTTERANCES, noun="splits")
            raise ConfigError(f"demo:{location}: there is no such split; {hint}")
        if language not in ("en", "ko"):
            raise ConfigError(f"demo:{location}: language is '{language}', expected 'en' or 'ko'")
        if utterances is not None and utterances < 1:
            raise ConfigError(f"demo:{location}: utterances is {utterances}, expected 1 or more")
        self.location = location
        self._parameters = DemoParameters(
            split=location,
            language=language,
            utterances=DEFAULT_UTTERANCES[location] if utterances is None else utterances,
            seed=seed,
        )
        self._folder: Path | None = None
        self._rows: list[dict[str, Any]] = []
        self._fingerprint = ""

    def open(self, cache_dir: Path | None) -> None:
        """Make the corpus, unless the cache has it, and read its manifest.

        Args:
            cache_dir: where it is kept; None for the user's cache folder.

        Raises:
            DataError: if eSpeak NG is not installed or the cache cannot be written.
        """
        self._folder = ensure(self._parameters, cache_dir or default_cache())
        self._rows = rows(self._folder)
        self._fingerprint = hashlib.sha256((self._folder / MANIFEST).read_bytes()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Digest of texts, speakers and samples."""
        self._opened()
        return self._fingerprint

    @property
    def durations(self) -> Seconds:
        """(N,) seconds of each utterance."""
        self._opened()
        return np.array([row["duration"] for row in self._rows], dtype=np.float32)

    def cut(self, index: int) -> MonoCut:
        """Return utterance ``index`` with its recording and supervision."""
        folder, row = self._opened(), self._rows[index]
        name = f"demo-{self._parameters.language}-{self.location}-{index:06d}"
        duration = float(row["duration"])
        path = folder / row["audio_filepath"]
        recording = Recording(
            id=name,
            sources=[AudioSource(type="file", channels=[0], source=str(path))],
            sampling_rate=SAMPLE_RATE,
            num_samples=round(duration * SAMPLE_RATE),
            duration=duration,
        )
        supervision = SupervisionSegment(
            id=name,
            recording_id=name,
            start=0.0,
            duration=duration,
            text=row["text"],
            speaker=row["speaker"],
            language=row["lang"],
        )
        return MonoCut(
            id=name,
            start=0.0,
            duration=duration,
            channel=0,
            supervisions=[supervision],
            recording=recording,
        )

    def texts(self) -> Iterator[str]:
        """Yield all sentences in manifest order."""
        self._opened()
        return iter([row["text"] for row in self._rows])

    def __len__(self) -> int:
        self._opened()
        return len(self._rows)

    def _opened(self) -> Path:
        if self._folder is None:
            raise DataError(f"demo:{self.location} is used before open()")
        return self._folder
