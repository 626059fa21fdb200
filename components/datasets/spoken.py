"""A corpus that was spoken into a folder of the cache: its manifest as a source of cuts."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import AudioSource, Recording, SupervisionSegment
from lhotse.cut import MonoCut

from components.datasets.demo_corpus import MANIFEST, rows
from components.datasets.espeak_worker import SAMPLE_RATE
from core.data.cache import default_cache
from core.data.source import Seconds
from core.errors import DataError


class SpokenSource(ABC):
    """What sources share whose corpus is made when they are opened.

    Args:
        name: prefix of utterance ids.
        uri: of the source, for errors.
    """

    def __init__(self, *, name: str, uri: str) -> None:
        self._name = name
        self._uri = uri
        self._folder: Path | None = None
        self._rows: list[dict[str, Any]] = []
        self._fingerprint = ""

    @abstractmethod
    def _ensure(self, cache: Path) -> Path:
        """Return the folder of the corpus, made if it is not there. Raises DataError."""

    def open(self, cache_dir: Path | None) -> None:
        """Make the corpus, unless the cache has it, and read its manifest.

        Args:
            cache_dir: where it is kept; None for the user's cache folder.

        Raises:
            DataError: if eSpeak NG is not installed or the cache cannot be written.
        """
        self._folder = self._ensure(cache_dir or default_cache())
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
        name = f"{self._name}-{index:06d}"
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
            raise DataError(f"{self._uri} is used before open()")
        return self._folder
