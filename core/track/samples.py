"""Texts, audio and images as ordinary files in the run directory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core.contracts import Artifact, RunInfo
from core.track.jsonl import truncate_after
from core.track.png import encode_png

FOLDER = "samples"
INDEX = "samples.jsonl"


class SampleWriter:
    """Writes what a task shows into ``samples/``.

    Audio and images become ``samples/step_00001000/NAME.wav`` and ``.png``. ``samples.jsonl`` has
    a line for each artifact: ``step``, ``name``, ``kind``, ``caption``, and ``text`` or ``file``.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None

    def start(self, run: RunInfo) -> None:
        """Make the folder; on resume, drop index lines of later steps than the checkpoint."""
        folder = run.directory / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / INDEX).exists():
            truncate_after(folder / INDEX, run.resumed_step)
        self._folder = folder

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Do nothing: scalars are in ``metrics.jsonl``."""

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        """Write the files of one step, then their lines."""
        if self._folder is None:
            raise RuntimeError("SampleWriter.start was not called")
        if not artifacts:
            return
        place = self._folder / f"step_{step:08d}"
        place.mkdir(exist_ok=True)
        lines = [json.dumps(_store(a, place, step), ensure_ascii=False) for a in artifacts]
        with (self._folder / INDEX).open("a", encoding="utf-8") as index:
            index.write("".join(f"{line}\n" for line in lines))

    def finish(self, status: str) -> None:
        """Do nothing: every call leaves complete files."""


def _store(artifact: Artifact, place: Path, step: int) -> dict[str, Any]:
    """Write the file of an artifact, if it has one, and return its line of the index."""
    line: dict[str, Any] = {"step": step, "name": artifact.name, "kind": artifact.kind}
    line["caption"] = artifact.caption
    if artifact.kind == "text":
        line["text"] = str(artifact.value)
        return line
    value = np.asarray(artifact.value)
    if artifact.kind == "audio":
        if not artifact.sample_rate:
            raise ValueError(f"audio '{artifact.name}' has no sample_rate")
        file = place / f"{_file_name(artifact.name)}.wav"
        soundfile.write(file, value, artifact.sample_rate, subtype="PCM_16")
    else:
        file = place / f"{_file_name(artifact.name)}.png"
        file.write_bytes(encode_png(value))
    line["file"] = f"{place.name}/{file.name}"
    return line


def _file_name(name: str) -> str:
    """Return a portable file name; names that had to change stay distinct by a digest."""
    plain = name.replace("/", "-")
    safe = re.sub(r"[^\w.-]", "_", plain).lstrip(".")[:100]
    if safe == plain:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
