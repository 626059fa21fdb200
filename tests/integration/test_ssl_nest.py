"""Pre-training through the commands: bad data, resume, ranks, and the way into Stage 1."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from core.checkpoint.format import read_model
from core.checkpoint.locate import resolve_checkpoint
from tests.integration.command import (
    REPO,
    SMALL,
    STAGE1,
    environment,
    kill_at_step,
    repeatable_metrics,
    sori,
)
from tests.integration.test_ranks import torchrun

pytest.importorskip("espeakng_loader")

NEST = str(REPO / "experiments" / "ssl_nest.py")
TINY = (
    "+no_aim",
    "task.encoder.dim=16",
    "task.encoder.layers=1",
    "task.encoder.heads=2",
    "task.encoder.subsampling_channels=4",
    "data.batch_seconds=12",
    "trainer.threads=1",
    "trainer.log_every=1",
    "trainer.validate_every=4",
    "callbacks.4.every=3",
)
DEMO = (
    NEST,
    "train=demo:train?utterances=36",
    "validation=demo:validation?utterances=6",
    "noise=synthetic_noise:train",
    "validation_noise=synthetic_noise:validation",
    *TINY,
)


def same_weights(left: Path, right: Path) -> None:
    weights = [read_model(resolve_checkpoint(run, prefer="latest")) for run in (left, right)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_ends_bit_identical(workers: int, tmp_path: Path) -> None:
    """Masks, noise, mixing partners and the histogram of codes all go on where they were."""
    command = (*DEMO, "trainer.max_steps=8", f"data.workers={workers}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sori("core.run", *command, "--run-dir", whole, cwd=tmp_path)
    status = kill_at_step(
        4, *command, "--run-dir", killed, cwd=tmp_path, run=killed, number=signal.SIGKILL
    )
    assert status == -signal.SIGKILL
    sori("core.run", *command, "--run-dir", killed, cwd=tmp_path)
    same_weights(whole, killed)
    assert repeatable_metrics(whole) == repeatable_metrics(killed)


def test_two_ranks_equal_one_process_with_the_same_total_batch(tmp_path: Path) -> None:
    command = (
        *DEMO,
        "trainer.max_steps=5",
        "task.encoder.conv_norm=layer_norm",
        "task.masking.max_mask_ratio=0.01",  # no room for blocks: the same frames on all ranks
    )
    one, two = tmp_path / "one", tmp_path / "two"
    sori("core.run", *command, "trainer.accumulation=2", "--run-dir", one, cwd=tmp_path)
    done = subprocess.run(
        torchrun(*command, "--run-dir", two),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for (step, alone), (_, together) in zip(
        repeatable_metrics(one), repeatable_metrics(two), strict=True
    ):
        for name in ("train/masked_prediction", "train/accuracy", "val/loss", "val/accuracy"):
            if name in alone:
                assert together[name] == pytest.approx(alone[name], rel=1e-4), (step, name)
    weights = [read_model(resolve_checkpoint(run, prefer="latest")) for run in (one, two)]
    for name, value in weights[0].items():
        if not name.startswith("use."):  # each rank weighs its own batches
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def write(path: Path, audio: np.ndarray, rate: int = 16000) -> Path:
    soundfile.write(path, audio.astype(np.float32), rate)
    return path


@pytest.fixture
def ugly(tmp_path: Path) -> Path:
    """A folder of manifests with everything that is wrong in real ones."""
    rng = np.random.default_rng(0)
    lengths = {
        "speech0": 40000,
        "speech1": 24000,
        "speech2": 32000,
        "block": 6000,  # 37 frames, shorter than a block of forty
        "tiny": 1000,  # 6 frames, shorter than the subsampling factor
        "silent": 20000,
    }
    rows = []
    for name, size in lengths.items():
        audio = np.zeros(size) if name == "silent" else 0.1 * rng.standard_normal(size)
        write(tmp_path / f"{name}.wav", audio)
        rows.append({"audio_filepath": f"{name}.wav"})
    rows[0]["duration"] = 2.5  # type: ignore[assignment]
    rows.append({"audio_filepath": "never_was.wav"})
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "hum.wav", 0.05 * np.sin(np.arange(8000) / 20))
    noise = [{"audio_filepath": "hum.wav", "duration": 0.5}]
    noise += [{"audio_filepath": f"gone{n}.wav", "duration": 3.0} for n in range(9)]
    (tmp_path / "noise.json").write_text("".join(json.dumps(row) + "\n" for row in noise))
    return tmp_path


def test_ugly_manifests_neither_crash_nor_give_nan_and_everything_is_counted(ugly: Path) -> None:
    run = ugly / "run"
    done = sori(
        "core.run",
        NEST,
        f"train=nemo:{ugly / 'train.json'}",
        f"validation=nemo:{ugly / 'train.json'}",
        f"noise=nemo:{ugly / 'noise.json'}",
        *TINY,
        "data.min_seconds=0.01",
        "data.repeat_to_seconds=0",
        "data.max_batch=1",  # batches of one, too
        "data.augmentation.prob=1",
        "task.masking.block_size=40",
        "trainer.max_steps=12",
        "callbacks.0.max_share=1",
        "--run-dir",
        run,
        cwd=ugly,
    )
    assert "non-finite" not in done.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    numbers = [v for row in rows for k, v in row.items() if k.startswith(("train/", "val/"))]
    assert all(np.isfinite(numbers))
    last = {name: value for row in rows for name, value in row.items()}
    assert last["data/noise_retries"] == last["data/noise_retries_missing_file"] > 0
    assert "gone" in (run / "log.txt").read_text(), "the first failure is named"
    assert last["data/silent_clips"] > 0
    assert last["data/no_other_speaker"] > 0
    assert any(row.get("train/short_share", 0) > 0 for row in rows)
    assert "6 of 7 rows have no duration" in done.stdout
    assert f"the first of them {ugly / 'never_was.wav'}" in done.stdout
    assert "left out 1 utterance, 0.00 h whose header cannot be read" in done.stdout


def test_speech_in_which_nothing_is_counted_neither_trains_nor_ends_a_run(ugly: Path) -> None:
    """Six frames are masked, but a target is counted from seven of eight on."""
    (ugly / "short.json").write_text('{"audio_filepath": "tiny.wav"}\n')
    run = ugly / "run"
    done = sori(
        "core.run",
        NEST,
        f"train=nemo:{ugly / 'short.json'}",
        f"validation=nemo:{ugly / 'short.json'}",
        *TINY,
        "data.min_seconds=0.01",
        "data.repeat_to_seconds=0",
        "task.masking.block_size=40",
        "trainer.max_steps=4",
        "--run-dir",
        run,
        cwd=ugly,
    )
    assert "val: nothing was counted for accuracy, loss" in done.stdout
    assert "no target counted" in done.stdout
    assert "loss 0.0000" not in done.stdout
    first, last = sorted((run / "checkpoints").glob("step_*"))
    trained = read_model(first), read_model(last)
    for name, value in trained[0].items():
        if "running" not in name and not name.startswith("use."):
            assert torch.equal(value, trained[1][name]), name


def test_noise_that_is_all_missing_becomes_white_noise_and_is_counted(ugly: Path) -> None:
    lines = (ugly / "noise.json").read_text().splitlines(keepends=True)
    (ugly / "gone.json").write_text("".join(lines[1:]))
    run = ugly / "run"
    sori(
        "core.run",
        *DEMO[:3],
        f"noise=nemo:{ugly / 'gone.json'}",
        *TINY,
        "data.augmentation.prob=1",
        "data.augmentation.noise_ratio=1",
        "trainer.max_steps=2",
        "--run-dir",
        run,
        cwd=ugly,
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for row in rows for name, value in row.items()}
    assert last["data/noise_fallbacks"] > 0
    assert last["data/noise_retries"] == 20 * last["data/noise_fallbacks"]


def test_stage_1_starts_from_the_encoder_of_a_pre_training_run(tmp_path: Path) -> None:
    run, fine = tmp_path / "run", tmp_path / "fine"
    sori("core.run", *DEMO, "trainer.max_steps=4", "--run-dir", run, cwd=tmp_path)
    stage1 = (STAGE1, *(token for token in SMALL if not token.startswith("task.encoder")))
    done = sori(
        "core.run",
        *stage1,
        "trainer.max_steps=1",
        "optimizer.lr=0",
        "--init-from",
        run,
        "--run-dir",
        fine,
        cwd=tmp_path,
    )
    assert "taken     encoder:" in done.stdout
    assert "fresh     head:" in done.stdout
    before, after = (read_model(resolve_checkpoint(r, prefer="best")) for r in (run, fine))
    shared = [name for name in before if name.startswith("encoder.") and "running" not in name]
    assert len(shared) > 30
    for name in shared:
        assert torch.equal(before[name], after[name]), name
