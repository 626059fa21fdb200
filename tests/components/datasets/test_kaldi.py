from __future__ import annotations

from pathlib import Path

import pytest

from components.datasets.kaldi import KaldiSource
from core.data.audio import load_audio
from core.data.source import Source
from core.errors import DataError
from tests.core.data.corpus_files import RATE, tone, write_wav


def folder(tmp_path: Path, **files: str) -> Path:
    for name, seconds in (("r1", 2.0), ("r2", 1.0)):
        write_wav(tmp_path / f"{name}.wav", seconds)
    tables = {"wav.scp": f"r1 {tmp_path}/r1.wav\nr2 {tmp_path}/r2.wav\n"} | {
        name.replace("wav_scp", "wav.scp"): text for name, text in files.items()
    }
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    for name, text in tables.items():
        (data / name).write_text(text, "utf-8")
    return data


def opened(data: Path, root: Path | None = None) -> KaldiSource:
    source = KaldiSource(location=str(data), root=str(root) if root else None)
    source.open(data.parent / "cache")
    return source


def test_segments_become_cuts(tmp_path: Path) -> None:
    data = folder(
        tmp_path,
        segments="u1 r1 0.5 1.25\nu2 r1 1.25 2.0\nu3 r2 0 1\n",
        text="u1 하나\nu2 two words\nu3\n",
        utt2spk="u1 kim\nu2 lee\n",
    )
    source = opened(data)
    assert isinstance(source, Source)
    assert source.durations.tolist() == [0.75, 0.75, 1.0]
    assert list(source.texts()) == ["하나", "two words", ""]
    cut = source.cut(0)
    assert (cut.id, cut.supervisions[0].text, cut.supervisions[0].speaker) == ("u1", "하나", "kim")
    assert (load_audio(cut, sample_rate=RATE) == tone(2.0)[8000:20000]).all()
    assert source.cut(2).supervisions[0].speaker is None


def test_without_segments_a_recording_is_an_utterance(tmp_path: Path) -> None:
    source = opened(folder(tmp_path, text="r2 two\nr1 one\n"))
    assert source.durations.tolist() == [2.0, 1.0]
    assert [source.cut(i).id for i in range(2)] == ["r1", "r2"]
    assert list(source.texts()) == ["one", "two"]


def test_durations_come_from_a_table_where_there_is_one(tmp_path: Path) -> None:
    source = opened(folder(tmp_path, reco2dur="r1 1.5\n"))
    assert source.durations.tolist() == [1.5, 1.0]


def test_relative_paths_start_from_root(tmp_path: Path) -> None:
    source = opened(folder(tmp_path, wav_scp="r1 r1.wav\n"), root=tmp_path)
    assert load_audio(source.cut(0), sample_rate=RATE).shape == (2 * RATE,)


def test_a_changed_table_is_other_data(tmp_path: Path) -> None:
    before = opened(folder(tmp_path, text="r1 one\n")).fingerprint
    assert opened(folder(tmp_path)).fingerprint == before
    assert opened(folder(tmp_path, text="r1 uno\n")).fingerprint != before


def test_commands_are_refused_and_not_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    data = folder(tmp_path, wav_scp=f"r1 {tmp_path}/r1.wav\nr2 touch {trace}; cat x |\n")
    with pytest.raises(DataError, match=r"wav\.scp:2: 'r2' is the output of a command"):
        opened(data)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": "r1\n"}, r"wav\.scp:1: expected 'key value', found 'r1'"),
        ({"wav_scp": "r1 a.wav\n\n"}, r"wav\.scp:2: expected 'key value'"),
        ({"text": "r1 a\nr1 b\n"}, r"text:2: 'r1' is there twice"),
        ({"segments": "u1 r1 0\n"}, r"segments:1: expected 'utterance recording start end'"),
        ({"segments": "u1 r1 0 x\n"}, r"segments:1: expected"),
        ({"segments": "u1 r9 0 1\n"}, r"segments:1: recording 'r9' is not in wav\.scp"),
        ({"segments": "u1 r1 1 1\n"}, r"segments:1: 1\.0 to 1\.0 s is empty"),
        ({"segments": "u1 r1 0 1\nu1 r1 1 2\n"}, r"segments:2: 'u1' is there twice"),
        ({"wav_scp": "r1 /none.wav\n"}, r"1 of 1 recordings .*\n  r1: missing file: /none\.wav"),
    ],
)
def test_a_bad_table_is_named_with_its_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    data = folder(tmp_path, **files)
    with pytest.raises(DataError, match=message):
        opened(data)
    assert not list((tmp_path / "cache").rglob("*.jsonl"))


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no wav\.scp there"):
        opened(tmp_path / "nothing")
