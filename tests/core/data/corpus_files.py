"""Small real corpora on disk, and the tokenizer and source that tests put around them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse.cut import Cut

from core.data.audio import recording
from core.errors import DataError

RATE = 16000


class Characters:
    """A tokenizer of single characters."""

    def __init__(self) -> None:
        self.characters: list[str] = []

    @property
    def fitted(self) -> bool:
        return bool(self.characters)

    @property
    def vocab_size(self) -> int:
        return len(self.characters) + 1

    def fit(self, texts: Iterable[str]) -> None:
        self.characters = sorted({character for text in texts for character in text})

    def encode(self, text: str) -> list[int]:
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            raise DataError(f"cannot encode {unknown}")
        return [self.characters.index(character) + 1 for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.characters[index - 1] for index in ids)

    def token(self, index: int) -> str:
        return self.characters[index - 1]

    def save(self, directory: Path) -> None:
        (directory / "characters.json").write_text(json.dumps(self.characters))

    def load(self, directory: Path) -> None:
        self.characters = json.loads((directory / "characters.json").read_text())


def tone(seconds: float, *, rate: int = RATE, pitch: float = 440.0) -> np.ndarray[Any, Any]:
    """Return (S,) float32 samples of a sine."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def write_wav(path: Path, seconds: float = 1.0, *, rate: int = RATE, pitch: float = 440.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, rate=rate, pitch=pitch), rate, subtype="FLOAT")
    return path


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write_corpus(folder: Path, durations: Sequence[float], *, text: str = "a b") -> Path:
    """Write one wav an utterance and a NeMo manifest, ``train.jsonl``; pitch tells them apart."""
    rows = []
    for number, seconds in enumerate(durations):
        name = f"wavs/{number:03d}.wav"
        write_wav(folder / name, seconds, pitch=200.0 + 10 * number)
        rows.append(
            {
                "audio_filepath": name,
                "duration": seconds,
                "text": text,
                "speaker": f"s{number % 3}",
            }
        )
    return write_lines(folder / "train.jsonl", rows)


def mixed_durations(
    count: int, *, seed: int = 0, low: float = 0.2, high: float = 1.5
) -> list[float]:
    rng = np.random.default_rng(seed)
    return [round(float(value), 3) for value in rng.uniform(low, high, count)]


class ListStream:
    """A stream over wav files; a part is every ``shards``-th utterance."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.location = "list"
        self.fingerprint = f"{len(paths)} files"
        self._paths = list(paths)

    def open(self, cache_dir: Path | None) -> None:
        pass

    def cuts(self, *, epoch: int, shard: int, shards: int, seed: int | None) -> Iterator[Cut]:
        order = np.arange(len(self._paths))
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(order)
        for number in order[shard::shards]:
            path = self._paths[number]
            yield recording(path, utterance=path.stem).to_cut()

    def texts(self) -> Iterator[str]:
        return iter(())
