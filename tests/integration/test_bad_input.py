"""Bad input gets one clear message and a status of its own, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.errors import CheckpointError, ConfigError, DataError, RunDirError, TrainingError
from core.run import main
from core.rundir import RunDir
from tests.integration.command import REPO, SMALL, STAGE1

TINY = [token for token in SMALL if not token.startswith(("train=", "validation="))]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_corpus(folder: Path, *, utterances: int = 8, text: str = "one two three") -> Path:
    """Write noise with transcripts; enough to train on, impossible to learn."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    manifest = folder / "manifest.json"
    with manifest.open("w") as rows:
        for number in range(utterances):
            path = folder / f"{number}.wav"
            soundfile.write(path, rng.normal(0, 0.1, 16000 + 800 * number), 16000)
            row = {
                "audio_filepath": path.name,
                "duration": (16000 + 800 * number) / 16000,
                "text": text,
            }
            rows.write(json.dumps(row) + "\n")
    return manifest


def train(*arguments: str | Path, steps: int = 2) -> int:
    return main([STAGE1, *TINY, f"trainer.max_steps={steps}", *map(str, arguments)])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def finished(corpus: Path) -> Path:
    assert train(f"train=nemo:{corpus}", f"validation=nemo:{corpus}", "--run-dir", "run") == 0
    return Path("run").resolve()


def refused(
    capsys: pytest.CaptureFixture[str], status: int, expected: type[Exception], *parts: str
) -> str:
    captured = capsys.readouterr()
    assert status == expected.exit_code, captured.err
    assert captured.err.startswith(expected.__name__)
    assert "Traceback" not in captured.err
    for part in parts:
        assert part in captured.err, captured.err
    return captured.err


def test_missing_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, train("train=nemo:nowhere.json"), DataError, "nowhere.json")


def test_empty_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.json").touch()
    refused(capsys, train("train=nemo:empty.json"), DataError, "empty.json")


def test_truncated_line_is_named_by_number(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = corpus.read_text().splitlines()
    lines[4] = lines[4][:20]
    corpus.write_text("\n".join(lines) + "\n")
    refused(capsys, train(f"train=nemo:{corpus}"), DataError, "manifest.json:5")


def test_files_that_are_not_audio_are_named_and_stop_the_run_when_many(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus.parent / "2.wav").write_bytes(os.urandom(4000))
    status = train(f"train=nemo:{corpus}", "callbacks.0.min_seen=1", steps=6)
    error = refused(capsys, status, TrainingError, "not audio: 1", "max_share")
    assert "skipped" in (next(Path("runs").glob("*")) / "log.txt").read_text(), error


def test_one_bad_file_below_the_share_is_logged_and_training_goes_on(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus.parent / "2.wav").write_bytes(b"")
    assert train(f"train=nemo:{corpus}", "callbacks.0.max_share=0.5", steps=3) == 0
    said = capsys.readouterr().out
    assert "empty file" in said


def test_transcripts_that_do_not_fit_the_audio_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "long", text="a b " * 60)
    assert train(f"train=nemo:{corpus}", steps=1) == 0
    metrics = (next(Path("runs").glob("*")) / "metrics.jsonl").read_text()
    assert '"train/infeasible": 1.0' in metrics


@pytest.mark.parametrize("read_only", [True, False])
def test_run_directory_that_cannot_be_written(
    read_only: bool, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocker = Path("blocker")
    if read_only:
        if os.geteuid() == 0:
            pytest.skip("root may write into read-only folders")
        blocker.mkdir(mode=0o500)
    else:
        blocker.touch()
    status = train(f"train=nemo:{corpus}", "--run-dir", blocker / "run")
    refused(capsys, status, RunDirError, "cannot write run directory")


def test_run_directory_that_another_process_is_writing(
    finished: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = f"""
import sys, time
from pathlib import Path
from core.rundir import RunDir
with RunDir.create(Path({str(finished.parent)!r}), {finished.name!r}, rank=0):
    print("held", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    before = (finished / "metrics.jsonl").read_bytes()
    status = train(f"train=nemo:{corpus}", f"validation=nemo:{corpus}", "--run-dir", finished)
    refused(capsys, status, RunDirError, str(process.pid))
    assert (finished / "metrics.jsonl").read_bytes() == before
    process.communicate("")


def test_checkpoint_of_another_architecture_lists_what_differs(
    finished: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ("trainer.max_steps=4", "task.encoder.dim=24", "--resume", str(finished))
    sources = (f"train=nemo:{corpus}", f"validation=nemo:{corpus}")
    before = (finished / "config.txt").read_text()
    former = RunDir.open(finished).status()
    status = main([STAGE1, *TINY, *sources, *other])
    assert (finished / "config.txt").read_text() == before, "a refused resume changes nothing"
    assert RunDir.open(finished).status() == former
    refused(capsys, status, CheckpointError, "encoder.layers.0", "16", "24")


@pytest.fixture
def longer(corpus: Path) -> Iterator[tuple[str, ...]]:
    """Arguments of a run with checkpoints at steps 3, 6 and 8, which has been trained."""
    arguments = (f"train=nemo:{corpus}", f"validation=nemo:{corpus}", "--run-dir", "run")
    assert train(*arguments, steps=8) == 0
    (Path("run") / "results.json").unlink()
    return arguments


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove meta"])
def test_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    damage: str, longer: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    newest, before = sorted(Path("run/checkpoints").glob("step_*"), reverse=True)[:2]
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "truncate":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[-5] ^= 1
        weights.write_bytes(content)
    else:
        (newest / "meta.json").unlink()
    capsys.readouterr()
    assert train(*longer, steps=8) == 0
    said = capsys.readouterr().out
    assert newest.name in said
    assert f"resume  {before.name}" in said


def test_run_directory_of_another_configuration_is_refused_with_the_difference(
    finished: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = train(
        f"train=nemo:{corpus}",
        f"validation=nemo:{corpus}",
        "optimizer.lr=0.5",
        "--run-dir",
        finished,
    )
    refused(capsys, status, ConfigError, "optimizer.lr", "0.5", "--resume")


def test_changed_manifest_is_refused_and_allowed_on_request(
    longer: tuple[str, ...], corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join(lines[:-1]) + "\n")
    refused(capsys, train(*longer, steps=8), DataError, "--allow-data-change")
    assert train(*longer, "--allow-data-change", steps=8) == 0


def test_status_of_a_failed_run_says_why(corpus: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--no-such-flag"])
    assert train("train=nemo:nowhere.json", "--run-dir", "failed") == DataError.exit_code
    status = RunDir.open(Path("failed")).status()
    assert status["status"] == "failed"
    assert "nowhere.json" in status["reason"]


def test_settings_that_only_the_loop_can_judge(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (f"train=nemo:{corpus}", f"validation=nemo:{corpus}")
    status = train(*data, "trainer.accumulation=0")
    refused(capsys, status, ConfigError, "trainer.accumulation", "at least 1")
    status = train(*data, "callbacks.3.monitor=val/weer", steps=4)
    refused(capsys, status, ConfigError, "'val/weer'", "val/wer")


def test_init_from_other_weights_than_the_run_began_with_is_refused(
    finished: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (f"train=nemo:{corpus}", f"validation=nemo:{corpus}", "--run-dir", finished)
    status = train(*data, "--init-from", finished)
    refused(capsys, status, ConfigError, "fresh weights", "--resume never")


def test_a_run_resumed_with_other_settings_refuses_its_former_command(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (f"train=nemo:{corpus}", f"validation=nemo:{corpus}")
    assert train(*data) == 0
    (made,) = Path("runs").iterdir()
    assert train(*data, "optimizer.lr=0.5", "--resume", made, steps=3) == 0
    assert "optimizer.lr: 0.002 -> 0.5" in capsys.readouterr().out
    refused(capsys, train(*data), ConfigError, "another configuration", "optimizer.lr")
