"""An adapter directory through the commands: transcribed with, evaluated, merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from components.adapter_files.peft import PeftWeights
from components.speech_llm.tiny import write_tiny
from core import evaluate, export, run, transcribe
from core.errors import CheckpointError, ConfigError, DataError
from tests.fixtures.adapters import adapter_task, train
from tests.integration.command import REPO

RATE = 16_000
SECONDS = (1.0, 2.0, 61.0)
SAID = ("(기침) 네.", "약을 (3알)/(세 알) 먹었어요.", "긴 이야기")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, an adapter of it, four recordings, and a manifest of them."""
    folder = tmp_path_factory.mktemp("adapted")
    task = adapter_task(write_tiny(folder / "base", hidden=32, layers=1), assets=folder / "assets")
    train(task)
    PeftWeights(location=str(folder / "adapter")).save(task)
    generator = np.random.default_rng(0)
    rows = []
    for number, (seconds, text) in enumerate(zip(SECONDS, SAID, strict=True)):
        samples = 0.1 * generator.standard_normal(int(seconds * RATE))
        soundfile.write(folder / f"{number}.wav", samples, RATE)
        rows.append({"audio_filepath": f"{number}.wav", "duration": seconds, "text": text})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "list.txt").write_text("".join(f"{number}.wav\n" for number in range(len(rows))))
    return folder


def heard(file: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["text"] for row in rows}


def test_one_file_a_list_and_any_batch_give_the_same_texts(place: Path, tmp_path: Path) -> None:
    adapter, found = str(place / "adapter"), []
    for size in ("1", "3"):
        out = tmp_path / f"{size}.jsonl"
        arguments = [adapter, "--list", str(place / "list.txt"), "--batch-size", size]
        assert transcribe.main([*arguments, "--output", str(out)]) == 0
        found.append(heard(out))
    assert list(found[0]) == [str(place / f"{number}.wav") for number in range(len(SAID))]
    assert found[0] == found[1]
    single = tmp_path / "single.jsonl"
    file = str(place / "2.wav")
    arguments = [adapter, file, "--base", str(place / "base"), "--output", str(single)]
    assert transcribe.main(arguments) == 0
    assert heard(single) == {file: found[0][file]}


def test_the_unadapted_baseline_stands_beside_the_adapted_figure(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, lines = f"nemo:{place / 'test.jsonl'}", tmp_path / "r.json", tmp_path / "r.jsonl"
    arguments = [str(place / "adapter"), source, "--json", str(out), "--output", str(lines)]
    assert evaluate.main(arguments) == 0
    printed, told = capsys.readouterr()
    assert f"task: base {place / 'base'} (Voxtral), float32, not quantised" in told
    assert "in the normal form of text/normalizer version=1" in printed
    assert "Before and after adaptation, on the same prompts" in printed
    assert "un-adapted" in printed
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))[source]
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert {row["reference"] for row in rows} == set(SAID)
    assert any(row["hypothesis"] != row["unadapted"] for row in rows)
    assert len(report["task"]) == 4
    assert all(f"task: {line}\n" in told for line in report["task"])
    assert report["cer"]["reference_length"] < report["as_written"]["cer"]["reference_length"]
    assert report["unadapted"]["cer"]["reference_length"] == report["cer"]["reference_length"]
    change = report["comparison"]["cer"]
    assert change["rate"] == report["cer"]["rate"]
    assert change["baseline"] == report["unadapted"]["cer"]["rate"]
    assert evaluate.main([*arguments, "--no-baseline"]) == 0
    assert "Before and after" not in capsys.readouterr().out
    alone = json.loads(out.read_text(encoding="utf-8"))[source]
    assert "comparison" not in alone
    assert alone["cer"] == report["cer"]


def test_what_has_no_transcript_is_not_scored_and_an_empty_one_is(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"audio_filepath": str(place / f"{n}.wav"), "id": f"u{n}"} for n in range(3)]
    texts: list[dict[str, str]] = [{"text": SAID[0]}, {"text": ""}, {}]
    source = tmp_path / "some.jsonl"
    lines = [json.dumps(row | text) for row, text in zip(rows, texts, strict=True)]
    source.write_text("\n".join(lines) + "\n", "utf-8")
    out, written = tmp_path / "r.json", tmp_path / "r.jsonl"
    arguments = [str(place / "adapter"), f"nemo:{source}", "--json", str(out)]
    assert evaluate.main([*arguments, "--no-baseline", "--output", str(written)]) == 0
    assert "skipped u2: no transcript" in capsys.readouterr().err
    report = json.loads(out.read_text(encoding="utf-8"))[f"nemo:{source}"]
    assert (report["utterances"], report["skipped"]) == (2, 1)
    references = {row["id"]: row["reference"] for row in map(json.loads, written.open())}
    assert references == {"u0": SAID[0], "u1": ""}


def test_merged_and_exported_again_the_texts_stay(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, merged, copy = place / "adapter", tmp_path / "merged", tmp_path / "copy"
    assert export.main([str(adapter), f"merged:{merged}"]) == 0
    assert "logits of merged and adapted differ by" in capsys.readouterr().out
    assert export.main([str(adapter), f"peft:{copy}"]) == 0
    found = []
    for folder in (adapter, merged, copy):
        out = tmp_path / "out.jsonl"
        arguments = [str(folder), f"@{place / 'list.txt'}", "--output", str(out)]
        assert transcribe.main(arguments) == 0
        found.append(heard(out))
    assert found[0] == found[1] == found[2]
    source = f"nemo:{place / 'test.jsonl'}"
    capsys.readouterr()
    assert evaluate.main([str(merged), source]) == 0
    assert "Before and after" not in capsys.readouterr().out, "a whole model has no baseline"


def test_a_run_and_its_adapter_directory_agree(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, directory = f"nemo:{place / 'test.jsonl'}", tmp_path / "run"
    arguments = [f"base={place / 'base'}", f"train={source}", f"validation={source}", "+no_aim"]
    arguments += ["trainer.max_steps=1", "data.workers=0", "task.model.max_new_tokens=6"]
    arguments += ["data.batch_size=2", "data.max_seconds=3", "scheduler.warmup_steps=0"]
    arguments += ["--init-from", f"peft:{place / 'adapter'}", "--run-dir", str(directory)]
    assert run.main([str(REPO / "experiments" / "asr_adapter.py"), *arguments]) == 0
    assert "taken     adapter: 4 tensors" in capsys.readouterr().out
    assert export.main([str(directory), f"peft:{tmp_path / 'out'}"]) == 0
    reports = []
    for target in (directory, tmp_path / "out"):
        assert evaluate.main([str(target), source, "--json", str(tmp_path / "r.json")]) == 0
        reports.append(json.loads((tmp_path / "r.json").read_text(encoding="utf-8")))
    assert reports[0] == reports[1]
    assert "comparison" in reports[0][source]


def test_refusals_are_one_message(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter, audio = str(place / "adapter"), str(place / "0.wav")
    gone = str(place / "gone")
    for arguments, status, message in (
        ([adapter, audio, "--base", gone], CheckpointError.exit_code, "no folder"),
        ([adapter, audio, "--set", "task.langage=ko"], ConfigError.exit_code, "task.language"),
        ([adapter, audio, "--set", "task.language=korean"], ConfigError.exit_code, "korean"),
        ([adapter, gone], DataError.exit_code, "missing file"),
        ([adapter, str(place / "test.jsonl")], ConfigError.exit_code, "'nemo:'"),
    ):
        assert transcribe.main(arguments) == status, arguments
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said
