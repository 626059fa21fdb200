from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.contracts import Artifact, RunInfo
from core.track.samples import SampleWriter

TONE = np.sin(np.arange(160) / 5).astype(np.float32) * 0.5


def started(directory: Path, resumed: int = 0) -> SampleWriter:
    writer = SampleWriter()
    writer.start(RunInfo(directory=directory, name="run", hparams={}, resumed_step=resumed))
    return writer


def lines(directory: Path) -> list[dict[str, object]]:
    text = (directory / "samples" / "samples.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_each_kind_is_stored_and_listed(tmp_path: Path) -> None:
    writer = started(tmp_path)
    writer.artifacts(
        [
            Artifact(name="text/utt-1", kind="text", value="소리", caption="reference"),
            Artifact(name="audio/utt-1", kind="audio", value=TONE, sample_rate=8000),
            Artifact(name="mel/utt-1", kind="image", value=np.zeros((2, 3, 3), np.uint8)),
        ],
        step=12,
    )

    text, audio, image = lines(tmp_path)

    assert text == {
        "step": 12, "name": "text/utt-1", "kind": "text", "caption": "reference", "text": "소리"
    }  # fmt: skip
    assert audio["file"] == "step_00000012/audio-utt-1.wav"
    samples, rate = soundfile.read(tmp_path / "samples" / str(audio["file"]), dtype="float32")
    assert rate == 8000
    assert np.abs(samples - TONE).max() < 1e-4
    assert (tmp_path / "samples" / str(image["file"])).read_bytes().startswith(b"\x89PNG")


def test_names_that_are_no_file_names_stay_inside_and_distinct(tmp_path: Path) -> None:
    names = ["../../etc/x", "a b", "a:b", "a/b", "소리", "x" * 300]
    writer = started(tmp_path)
    writer.artifacts(
        [Artifact(name=n, kind="audio", value=TONE, sample_rate=8000) for n in names], step=1
    )

    files = [tmp_path / "samples" / str(line["file"]) for line in lines(tmp_path)]

    assert len(set(files)) == len(names)
    assert {file.parent for file in files} == {tmp_path / "samples" / "step_00000001"}
    assert all(file.is_file() for file in files)


def test_on_resume_later_lines_are_dropped(tmp_path: Path) -> None:
    writer = started(tmp_path)
    for step in (10, 20, 30):
        writer.artifacts([Artifact(name="text/a", kind="text", value="x")], step=step)

    resumed = started(tmp_path, resumed=20)
    resumed.artifacts([Artifact(name="text/a", kind="text", value="x")], step=30)

    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 30]


def test_audio_without_a_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'audio/a' has no sample_rate"):
        started(tmp_path).artifacts([Artifact(name="audio/a", kind="audio", value=TONE)], step=1)


def test_nothing_to_show_makes_no_folder(tmp_path: Path) -> None:
    started(tmp_path).artifacts([], step=1)

    assert list((tmp_path / "samples").iterdir()) == []
