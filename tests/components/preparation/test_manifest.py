from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.datasets.nemo import NemoSource
from components.preparation.manifest import Manifest
from core.data.audio import load_audio
from core.errors import ConfigError, DataError
from core.prepare import main
from tests.core.data.corpus_files import write_wav
from tests.fixtures.pair_files import read_rows

SECONDS = {"a": 3.0, "b": 25.0, "c": 2.5, "d": 25.5, "e": 4.25, "f": 5.0, "g": 6.0}
TEXTS = {
    "a": "b/ (70%)/(칠 십 프로)에서 n/.",
    "b": unicodedata.normalize("NFD", "안녕하세요"),
    "c": "짧다",
    "d": "길다",
    "e": "n/ (웃음)",
    "f": "(하나)/둘",
    "z": "소리 없음",
}


@pytest.fixture
def scp(tmp_path: Path) -> Path:
    """A list of real audio, a file that is none and one that is missing."""
    for name, seconds in SECONDS.items():
        write_wav(tmp_path / f"{name}.wav", seconds)
    (tmp_path / "x.wav").write_bytes(b"no audio")
    listed = [*SECONDS, "x", "y"]
    (tmp_path / "wav.scp").write_text("".join(f"{n} {n}.wav\n" for n in listed), "utf-8")
    texts = TEXTS | {"x": "가", "y": "나"}
    (tmp_path / "text").write_text("".join(f"{n} {t}\n" for n, t in texts.items()), "utf-8")
    return tmp_path / "wav.scp"


def manifest(source: Path, folder: Path, **options: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    output = folder / "out" / "train.jsonl"
    Manifest(source=source, output=output, root=folder, **options)(said.append)
    return output, said


def test_a_list_becomes_a_manifest_and_everything_left_out_has_a_reason(
    scp: Path, tmp_path: Path
) -> None:
    output, said = manifest(scp, tmp_path, transcripts=tmp_path / "text", kspon="orthographic")
    assert read_rows(output) == [
        {
            "id": "a",
            "audio_filepath": str((tmp_path / "a.wav").resolve()),
            "duration": 3.0,
            "text": "70%에서",
            "lang": "ko",
            "raw_text": TEXTS["a"],
        },
        {
            "id": "b",
            "audio_filepath": str((tmp_path / "b.wav").resolve()),
            "duration": 25.0,
            "text": "안녕하세요",
            "lang": "ko",
            "raw_text": TEXTS["b"],
        },
    ]
    report = json.loads(output.with_suffix(".report.json").read_text("utf-8"))
    assert {reason: entry["count"] for reason, entry in report["left_out"].items()} == {
        "shorter than 3 s": 1,
        "longer than 25 s": 1,
        "empty transcript": 1,
        "half a dual transcription": 1,
        "no transcript": 1,
        "not audio": 1,
        "missing file": 1,
    }
    assert (report["utterances"], report["kept"]) == (9, 2)
    assert report["kept_hours"] == pytest.approx(28 / 3600, abs=1e-6)
    assert report["left_out"]["half a dual transcription"]["examples"] == {"f": "(하나)/둘"}
    assert report["transcripts_without_audio"] == 1
    assert report["normalizer"].startswith("text/normalizer version=1 language=ko ")
    assert report["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert sum(item["utterances"] for item in report["durations"]) == len(SECONDS)
    assert sum(item["kept"] for item in report["durations"]) == 2
    assert said[0] == f"{output}: 2 of 9 utterances, 0.01 h"
    assert "  left out, shorter than 3 s: 1 (0.00 h), such as c: 2.500 s" in said
    assert "  transcripts without audio: 1, such as z" in said
    assert not [path for path in output.parent.iterdir() if path.name.startswith(".")]


def test_a_manifest_can_be_trained_on(scp: Path, tmp_path: Path) -> None:
    output, _ = manifest(scp, tmp_path, transcripts=tmp_path / "text", kspon="phonetic")
    source = NemoSource(location=str(output))
    source.open(tmp_path / "cache")
    assert source.durations.tolist() == [3.0, 25.0]
    assert list(source.texts()) == ["칠 십 프로에서", "안녕하세요"]
    assert source.cut(1).id == "b"


def test_a_kaldi_folder_with_segments(scp: Path, tmp_path: Path) -> None:
    (tmp_path / "segments").write_text("u1 b 1.5 6\nu2 b 20 25.05\nu3 b 20 26\nu4 b 0 1\n")
    (tmp_path / "text").write_text("u1 하나\nu2 둘\nu3 셋\nu4 넷\n", "utf-8")
    (tmp_path / "utt2spk").write_text("u1 kim\n")
    output, _ = manifest(tmp_path, tmp_path, max_seconds=10.0)
    rows = read_rows(output)
    found = [(r["id"], r["offset"], r["duration"], r["text"], r.get("speaker")) for r in rows]
    assert found == [("u1", 1.5, 4.5, "하나", "kim"), ("u2", 20.0, 5.0, "둘", None)]
    report = json.loads(output.with_suffix(".report.json").read_text("utf-8"))
    assert set(report["left_out"]) == {"segment past the end", "shorter than 3 s"}


@pytest.mark.parametrize(("written", "encoding"), [("utf-8-sig", "utf-8"), ("cp949", "cp949")])
def test_encodings(scp: Path, tmp_path: Path, written: str, encoding: str) -> None:
    text = tmp_path / "other.txt"
    text.write_bytes("a 안녕\nb 네\n".encode(written))
    output, _ = manifest(scp, tmp_path, transcripts=text, encoding=encoding)
    assert [row["text"] for row in read_rows(output)] == ["안녕", "네"]


def test_a_wrong_encoding_names_file_and_line(scp: Path, tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_bytes("a ok\nb 안녕\n".encode("cp949"))
    with pytest.raises(DataError, match=r"other\.txt:2: not UTF-8: .* is it cp949\?"):
        manifest(scp, tmp_path, transcripts=text)
    assert not (tmp_path / "out").exists()


def test_commands_are_refused_and_not_executed(scp: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    scp.write_text(f"a a.wav\nb touch {trace} |\n", "utf-8")
    with pytest.raises(DataError, match=r"wav\.scp:2: 'b' is the output of a command"):
        manifest(tmp_path, tmp_path)
    assert not trace.exists()


def test_bad_input_is_refused(scp: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name its transcripts with --transcripts"):
        manifest(scp, tmp_path)
    with pytest.raises(DataError, match=r"none: no such file; expected transcripts"):
        manifest(scp, tmp_path, transcripts=tmp_path / "none")
    with pytest.raises(ConfigError, match="min_seconds is 9 and max_seconds 3"):
        manifest(tmp_path, tmp_path, min_seconds=9.0, max_seconds=3.0)
    with pytest.raises(DataError, match="no utterance is left"):
        manifest(tmp_path, tmp_path, min_seconds=50.0, max_seconds=60.0)
    (tmp_path / "text").write_text("utt_a1 x\n", "utf-8")
    scp.write_text("utt-a1 a.wav\n", "utf-8")
    with pytest.raises(DataError, match="first, 'utt-a1': did you mean 'utt_a1'"):
        manifest(tmp_path, tmp_path)


def test_the_command(
    scp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["manifest", "wav.scp", "m.jsonl", "--transcripts", "text", "--min-seconds", "2"]
    assert main([*command, "--kspon", "orthographic"]) == 0
    printed = capsys.readouterr().out
    assert "m.jsonl: 3 of 9 utterances" in printed
    assert "utterances" in printed
    before = Path("m.jsonl").read_bytes()
    assert main(command) == DataError.exit_code
    assert "m.jsonl exists; --force replaces it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert Path("m.jsonl").read_bytes() != before


def test_the_lists_of_kspon_speech_become_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As released: headerless samples, one of the files with half a sample at its end."""
    folder = tmp_path / "한국어 음성" / "KsponSpeech_0001"
    folder.mkdir(parents=True)
    seconds = np.arange(4 * 16_000) / 16_000
    content = (8000 * np.sin(2 * np.pi * 440 * seconds)).astype("<i2").tobytes()
    (folder / "KsponSpeech_000001.pcm").write_bytes(content)
    (folder / "KsponSpeech_000002.pcm").write_bytes(content + b"\x00")
    listed = tmp_path / "train.trn"
    listed.write_text(
        "KsponSpeech_0001/KsponSpeech_000001.pcm :: b/ 아/ (70%)/(칠십 퍼센트) 그거+ 그거 n/.\n"
        "KsponSpeech_0001/KsponSpeech_000002.pcm :: 근데 뭐 어때?\n"
        "KsponSpeech_0001/KsponSpeech_000003.pcm ::\n",
        "utf-8",
    )
    output = tmp_path / "train.jsonl"
    command = ["manifest", str(listed), str(output), "--root", str(folder.parent)]
    assert main([*command, "--kspon", "orthographic"]) == 0
    rows = read_rows(output)
    assert [(row["id"], row["duration"], row["text"]) for row in rows] == [
        ("KsponSpeech_000001", 4.0, "아 70% 그거 그거"),
        ("KsponSpeech_000002", 4.0, "근데 뭐 어때"),
    ]
    said = capsys.readouterr()
    assert "without a header, read as 16 kHz, 16 bits, mono: 2" in said.out + said.err
    assert json.loads(output.with_suffix(".report.json").read_text("utf-8"))["headerless"] == 2
    source = NemoSource(location=str(output))
    source.open(None)
    assert load_audio(source.cut(1), sample_rate=16_000).size == 64_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.pcm 가\n", "train.trn:1: expected 'audio :: transcript', found 'a.pcm 가'"),
        ("a.pcm :: 가\nb/a.pcm :: 나\n", "train.trn:2: 'a' is there twice"),
        ("", "no audio is listed"),
    ],
)
def test_a_bad_list_is_refused_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.trn").write_text(content, "utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        manifest(tmp_path / "train.trn", tmp_path)


def test_a_list_with_transcripts_takes_no_others(tmp_path: Path) -> None:
    (tmp_path / "train.trn").write_text("a.pcm :: 가\n", "utf-8")
    with pytest.raises(DataError, match="has transcripts of its own"):
        manifest(tmp_path / "train.trn", tmp_path, transcripts=tmp_path / "text")


@pytest.mark.parametrize("name", ["wav.scp", "text", "terms.tsv"])
@pytest.mark.parametrize("kaldi", [False, True])
def test_what_is_read_is_never_replaced(scp: Path, tmp_path: Path, name: str, kaldi: bool) -> None:
    (tmp_path / "terms.tsv").write_text("a\tb\n")
    tables = {"source": tmp_path} if kaldi else {"source": scp, "transcripts": tmp_path / "text"}
    made = Manifest(
        **tables, output=tmp_path / name, replacements=tmp_path / "terms.tsv", force=True
    )
    before = (tmp_path / name).read_bytes()
    with pytest.raises(DataError, match=f"{name} is what is read"):
        made(lambda _: None)
    assert (tmp_path / name).read_bytes() == before
