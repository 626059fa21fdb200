"""Corpora of the Hugging Face ``datasets`` library, streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import SupervisionSegment
from lhotse.cut import Cut

from core.data.audio import AudioError, recording
from core.errors import DataError, suggest
from core.registry import register

_TEXTS = ("text", "transcript", "sentence", "normalized_text", "transcription")
_SPEAKERS = ("speaker_id", "speaker", "client_id")
_IDS = ("id", "utterance_id", "segment_id")


@register("dataset", "hf")
class HuggingFaceSource:
    """A dataset with an audio column, by the name it has on the hub or by its local folder.

    Audio bytes are decoded here, with soundfile; the library only delivers them.

    Args:
        location: ``owner/name``, ``owner/name/config`` or a folder.
        split: of the dataset.
        text: column of the transcript; None to take the first of ``text``, ``transcript``,
            ``sentence``, ``normalized_text`` and ``transcription``.
        revision: git revision on the hub; None for the newest.
    """

    def __init__(
        self,
        *,
        location: str,
        split: str = "train",
        text: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.location = location
        self._split = split
        self._text = text
        self._revision = revision
        self._dataset: Any = None
        self._audio = ""
        self._digest = ""

    def open(self, cache_dir: Path | None) -> None:
        """Find the dataset and its columns. Raises DataError if it is not what is needed."""
        try:
            import datasets
        except ImportError as error:
            raise DataError(
                f"hf:{self.location} needs the package 'datasets': pip install 'sori[hf]'"
            ) from error
        name, config = self._name_and_config()
        try:
            dataset = datasets.load_dataset(
                name, config, split=self._split, streaming=True, revision=self._revision
            )
        except (OSError, ValueError) as error:
            raise DataError(f"hf:{self.location}: split '{self._split}': {error}") from error
        columns = dataset.features or {}
        audio = [key for key, feature in columns.items() if isinstance(feature, datasets.Audio)]
        if not audio:
            found = ", ".join(columns) or "none"
            raise DataError(f"hf:{self.location}: no audio column; columns: {found}")
        self._audio = audio[0]
        self._text = self._text_column(columns)
        # Without features the library hands rows over as they are stored, and decodes nothing.
        dataset.info.features = None
        self._dataset = dataset
        identity = f"{name}\n{config}\n{self._split}\n{self._revision}\n{dataset.info.version}"
        self._digest = hashlib.sha256(identity.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Digest of name, configuration, split, revision and version."""
        return self._digest

    def cuts(
        self, *, epoch: int, shard: int, shards: int, seed: int | None
    ) -> Iterator[Cut | AudioError]:
        """Yield a part of the dataset, its files in an order drawn from seed and epoch.

        Where there are at least as many files as parts, each part has files of its own; else each
        reads all of them and keeps its share.
        """
        for position, row in enumerate(self._rows(epoch, shard, shards, seed)):
            try:
                yield self._cut(row, fallback=f"{self.location}#{shard}.{position}")
            except AudioError as error:
                yield error

    def texts(self) -> Iterator[str]:
        """Yield the transcripts; this reads the whole dataset once."""
        if self._text is None:
            return
        for row in self._dataset.select_columns([self._text]).iter(batch_size=1):
            if row[self._text][0] is not None:
                yield row[self._text][0]

    def _rows(self, epoch: int, shard: int, shards: int, seed: int | None) -> Iterator[Any]:
        # Files are ordered and divided here: the library's own shuffle reads ahead in threads, and
        # its iterator divides once more among loader workers. iter() does neither.
        count = self._dataset.num_shards
        order = list(range(count))
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
        by_file = count >= shards
        position = 0
        for number in order[shard::shards] if by_file else order:
            for batch in self._dataset.shard(num_shards=count, index=number).iter(batch_size=1):
                if by_file or position % shards == shard:
                    yield {key: values[0] for key, values in batch.items()}
                position += 1

    def _cut(self, row: Mapping[str, Any], *, fallback: str) -> Cut:
        stored = row[self._audio]
        audio: Mapping[str, Any] = {"path": stored} if isinstance(stored, str) else stored or {}
        path = audio.get("path")
        name = str(_first(row, _IDS) or Path(path or fallback).name)
        if not path and audio.get("bytes") is None:
            raise AudioError(reason="missing file", detail="no audio", utterance=name)
        content: bytes | None = audio.get("bytes")
        data = _fetched(str(path)) if content is None else content
        cut = recording(data, utterance=name).to_cut()
        speaker = _first(row, _SPEAKERS)
        cut.supervisions = [
            SupervisionSegment(
                id=name,
                recording_id=name,
                start=0.0,
                duration=cut.duration,
                channel=cut.channel,
                text=row[self._text] if self._text else None,
                speaker=None if speaker is None else str(speaker),
            )
        ]
        return cut

    def _name_and_config(self) -> tuple[str, str | None]:
        folder = Path(self.location).expanduser()
        if folder.is_dir():
            return str(folder), None
        if self.location.startswith(("/", ".", "~")):
            raise DataError(f"hf:{self.location}: no such folder")
        parts = self.location.split("/", 2)
        return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None

    def _text_column(self, columns: Mapping[str, Any]) -> str | None:
        if self._text is None:
            return next((name for name in _TEXTS if name in columns), None)
        if self._text not in columns:
            raise DataError(
                f"hf:{self.location}: no column '{self._text}'; "
                + suggest(self._text, columns, noun="columns")
            )
        return self._text


def _fetched(path: str) -> Path | bytes:
    """Return a local path as it is, and the content of a remote file."""
    if "://" not in path:
        return Path(path)
    import fsspec  # type: ignore[import-untyped]

    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401
    return next((row[name] for name in names if row.get(name) is not None), None)
