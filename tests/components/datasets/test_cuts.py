from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from lhotse import AudioSource, CutSet, SupervisionSegment

from components.datasets.cuts import CutsSource
from core.data.audio import load_audio, recording
from core.data.source import Source
from core.errors import DataError
from tests.core.data.corpus_files import RATE, tone, write_wav


def cut_set(folder: Path, durations: tuple[float, ...] = (0.5, 1.0)) -> CutSet:
    cuts = []
    for number, seconds in enumerate(durations):
        name = f"u{number}"
        cut = recording(write_wav(folder / f"{name}.wav", seconds), utterance=name).to_cut()
        cut.supervisions = [
            SupervisionSegment(
                id=name, recording_id=name, start=0, duration=seconds, text=f"text {number}"
            )
        ]
        cuts.append(cut)
    return CutSet.from_cuts(cuts)


def opened(path: Path, cache: Path | None = None, **options: Any) -> CutsSource:
    source = CutsSource(location=str(path), **options)
    source.open(cache)
    return source


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_cuts_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cuts{suffix}"
    cuts = cut_set(tmp_path)
    cuts.to_file(path)
    source = opened(path, tmp_path / "cache")
    assert isinstance(source, Source)
    assert source.durations.tolist() == [0.5, 1.0]
    assert [source.cut(i) for i in range(2)] == list(cuts)
    assert list(source.texts()) == ["text 0", "text 1"]
    assert (load_audio(source.cut(1), sample_rate=RATE) == tone(1.0)).all()


def test_a_packed_manifest_is_unpacked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "cuts.jsonl.gz", tmp_path / "cache"
    cut_set(tmp_path).to_file(path)
    first = opened(path, cache)
    assert opened(path, cache).fingerprint == first.fingerprint
    assert len(list((cache / "unpacked").iterdir())) == 1
    cut_set(tmp_path, (0.5, 1.0, 1.5)).to_file(path)
    assert len(opened(path, cache)) == 3


def test_a_packed_manifest_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    cut_set(tmp_path).to_file(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cuts\.jsonl\.gz: damaged gzip data"):
        opened(path, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    path.write_bytes(b"plain text")
    with pytest.raises(DataError, match="damaged gzip data"):
        opened(path, tmp_path / "cache")


def test_a_packed_manifest_needs_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    with pytest.raises(DataError, match="no such file"):
        opened(path)
    path.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(DataError, match="needs a cache folder"):
        opened(path)


def test_mixed_cuts_have_the_duration_of_the_mix(tmp_path: Path) -> None:
    one, other = cut_set(tmp_path)
    mixed = one.append(other)
    CutSet.from_cuts([mixed]).to_file(tmp_path / "cuts.jsonl")
    source = opened(tmp_path / "cuts.jsonl")
    assert source.durations.tolist() == [1.5]
    assert load_audio(source.cut(0), sample_rate=RATE).shape == (24000,)
    assert list(source.texts()) == ["text 0", "text 1"]


def test_relative_paths_start_from_root(tmp_path: Path) -> None:
    cuts = cut_set(tmp_path / "audio")
    for cut in cuts:
        cut.recording.sources[0].source = f"{cut.id}.wav"
    cuts.to_file(tmp_path / "cuts.jsonl")
    source = opened(tmp_path / "cuts.jsonl", root=str(tmp_path / "audio"))
    assert load_audio(source.cut(0), sample_rate=RATE).shape == (8000,)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_command_as_audio_is_refused_and_not_executed(tmp_path: Path, mixed: bool) -> None:
    trace = tmp_path / "trace"
    cut = cut_set(tmp_path)[0]
    cut.recording.sources = [AudioSource("command", [0], f"touch {trace}")]
    CutSet.from_cuts([cut.pad(duration=2) if mixed else cut]).to_file(tmp_path / "cuts.jsonl")
    with pytest.raises(DataError, match=r"cuts\.jsonl:1: audio is the output of 'touch"):
        opened(tmp_path / "cuts.jsonl")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"duration": 1, "type": "MonoCut"}', "id is None"),
        ('{"id": "u", "duration": 1, "type": "Cut"}', "type is 'Cut'; expected one of MonoCut"),
        ('{"id": "u", "type": "MonoCut"}', "no 'duration'"),
        ('{"id": "u", "type": "MixedCut", "tracks": []}', "a MixedCut without tracks"),
        ('{"id": "u", "type": "PaddingCut", "duration": 1}', "id 'u' is also on line 1"),
    ],
)
def test_a_line_that_is_not_a_cut_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "cuts.jsonl"
    path.write_text('{"id": "u", "type": "PaddingCut", "duration": 1}\n' + line + "\n")
    with pytest.raises(DataError) as caught:
        opened(path)
    assert f"cuts.jsonl:2: {reason}" in str(caught.value)
