from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import soundfile

from components.datasets.nemo import NemoSource
from core.data.audio import AudioError, load_audio
from core.data.source import Described, Source, StreamSource
from core.errors import DataError
from tests.core.data.corpus_files import RATE, tone, write_lines, write_wav


def opened(path: Path, **options: Any) -> NemoSource:
    source = NemoSource(location=str(path), **options)
    source.open(None)
    return source


def row(**fields: Any) -> dict[str, Any]:
    return {"audio_filepath": "u.wav", "duration": 1.0, **fields}


def test_a_line_becomes_a_cut(tmp_path: Path) -> None:
    write_wav(tmp_path / "u.wav", 2.0)
    line = row(text="소리", offset=0.5, speaker="kim", lang="ko")
    source = opened(write_lines(tmp_path / "m.jsonl", [line, row()]))
    assert isinstance(source, Source)
    assert not isinstance(source, StreamSource)
    assert source.durations.tolist() == [1.0, 1.0]
    cut = source.cut(0)
    assert (cut.id, cut.start, cut.duration) == ("u.wav@0.5", 0.5, 1.0)
    (supervision,) = cut.supervisions
    assert (supervision.text, supervision.speaker, supervision.language) == ("소리", "kim", "ko")
    assert (load_audio(cut, sample_rate=RATE) == tone(2.0)[8000:24000]).all()
    assert source.cut(1).id == "u.wav"
    assert list(source.texts()) == ["소리"]


def test_a_line_tells_all_but_the_recording_without_the_audio(tmp_path: Path) -> None:
    write_wav(tmp_path / "u.wav", 2.0)
    lines = [
        row(text="소리", offset=0.5, speaker="kim", lang="ko"),
        {"audio_filepath": "u.wav", "offset": 0.25, "id": "rest"},
    ]
    source = opened(write_lines(tmp_path / "m.jsonl", lines))
    assert isinstance(source, Described)
    cuts = [source.cut(number) for number in range(2)]
    (tmp_path / "u.wav").unlink()
    for number, cut in enumerate(cuts):
        told = source.described(number)
        assert not told.has_recording
        assert (told.id, told.start, told.duration) == (cut.id, cut.start, cut.duration)
        assert told.supervisions == cut.supervisions


def test_an_id_of_its_own_names_an_utterance(tmp_path: Path) -> None:
    write_wav(tmp_path / "u.wav")
    source = opened(write_lines(tmp_path / "m.jsonl", [row(id="utt-7")]))
    assert source.cut(0).id == "utt-7"


def test_paths_start_from_the_manifest_or_from_root(tmp_path: Path) -> None:
    write_wav(tmp_path / "audio" / "u.wav")
    manifest = write_lines(tmp_path / "m.jsonl", [row()])
    with pytest.raises(AudioError) as caught:
        opened(manifest).cut(0)
    assert (caught.value.reason, caught.value.utterance) == ("missing file", "u.wav")
    assert opened(manifest, root=str(tmp_path / "audio")).cut(0).duration == 1.0
    absolute = row(audio_filepath=str(tmp_path / "audio" / "u.wav"))
    elsewhere = write_lines(tmp_path / "n.jsonl", [absolute])
    assert opened(elsewhere, root="/nowhere").cut(0).duration == 1.0


def test_stereo_keeps_its_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "u.wav", [[0.1, 0.2]] * RATE, RATE)
    cut = opened(write_lines(tmp_path / "m.jsonl", [row()])).cut(0)
    with pytest.raises(AudioError, match="2 channels"):
        load_audio(cut, sample_rate=RATE)
    mean = load_audio(cut, sample_rate=RATE, channel="mean")
    assert mean == pytest.approx([0.15] * RATE, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"audio_filepath": None}, "no 'audio_filepath'"),
        ({"audio_filepath": 3}, "audio_filepath is 3; expected a path"),
        ({"text": 3}, "text is 3, a int; expected a string"),
        ({"speaker": 3}, "speaker is 3"),
        ({"offset": -1}, "offset is -1; expected seconds"),
        ({"offset": "0"}, "offset is '0'"),
        ({"audio_filename": 3}, "audio_filename is 3; expected a path"),
        ({"audio_filename": "v.wav"}, "audio_filepath is 'u.wav' and audio_filename is 'v.wav'"),
        ({"duration": "1"}, "duration is '1', a str"),
    ],
)
def test_a_field_that_is_not_valid_is_named(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    manifest = write_lines(tmp_path / "m.jsonl", [row(), row(**fields)])
    with pytest.raises(DataError) as caught:
        opened(manifest)
    assert f"m.jsonl:2: {reason}" in str(caught.value)


def test_a_line_without_a_duration_lasts_to_the_end_of_its_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "u.wav", 2.0)
    lines: list[dict[str, Any]] = [
        row(),
        {"audio_filepath": "u.wav"},
        {"audio_filename": "u.wav", "offset": 0.5, "duration": None},
        {"audio_filepath": "u.wav", "offset": 3.0},
        {"audio_filepath": "gone.wav"},
    ]
    source = opened(write_lines(tmp_path / "m.jsonl", lines))
    assert source.durations[:4].tolist() == [1.0, 2.0, 1.5, 0.0]
    assert math.isnan(source.durations[4])
    assert source.notes() == [
        "4 of 5 rows have no duration; read from the files' headers",
        f"without a readable header either: 1, the first of them {tmp_path / 'gone.wav'}",
    ]
    cut = source.cut(2)
    assert (cut.id, cut.start, cut.duration) == ("u.wav@0.5", 0.5, 1.5)
    assert (load_audio(cut, sample_rate=RATE) == tone(2.0)[8000:]).all()
    assert load_audio(source.cut(1), sample_rate=RATE).size == 2 * RATE
    with pytest.raises(AudioError, match="missing file"):
        source.cut(4)


def test_measured_durations_are_those_of_their_root(tmp_path: Path) -> None:
    for seconds in (1.0, 2.0):
        write_wav(tmp_path / f"{seconds:g}" / "u.wav", seconds)
    manifest = write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "u.wav"}])
    for seconds in (1.0, 2.0, 1.0):
        source = opened(manifest, root=str(tmp_path / f"{seconds:g}"))
        assert source.durations.tolist() == [seconds]


def test_declared_durations_need_no_notes_and_no_audio(tmp_path: Path) -> None:
    assert opened(write_lines(tmp_path / "m.jsonl", [row()])).notes() == []


def test_the_text_is_given_as_written(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "소리")
    source = opened(write_lines(tmp_path / "m.jsonl", [row(text=decomposed)]))
    assert list(source.texts()) == [decomposed]


def test_a_source_is_opened_before_it_is_used() -> None:
    with pytest.raises(RuntimeError, match=r"before open\(\)"):
        len(NemoSource(location="m.jsonl"))
