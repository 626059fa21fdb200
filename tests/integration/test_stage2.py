"""Stage 2 from pairs to an exported model, and what a user meets who follows the guide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpoint.format import read_meta, read_model
from core.checkpoint.store import CheckpointStore
from core.config.compose import compose_target
from core.errors import ConfigError, DataError, TrainingError
from core.export import main as export
from tests.components.models.published import PUBLISHED, shapes
from tests.fixtures.pair_files import LATENTS, WIDTH
from tests.integration.command import repeatable_metrics, sori
from tests.integration.stage2 import (
    STAGE2,
    STEPS,
    dying_at,
    make_pairs,
    newest,
    series,
    tokens,
    train,
)

REVERSED = 6
"""First step with a factor above 0."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    make_pairs(folder)
    return folder


@pytest.fixture(scope="module")
def done(pairs: Path) -> Path:
    """A run by the command itself, which the guide's environment configures in part."""
    finished = sori(
        "core.run",
        STAGE2,
        *tokens(pairs, batch_size=None, grad_acc=None, test=pairs / "pairs.jsonl"),
        "--run-dir",
        pairs / "done",
        cwd=pairs,
        BATCH_SIZE="2",
        GRAD_ACC="2",
    )
    (pairs / "done.txt").write_text(finished.stdout)
    return pairs / "done"


# ------------------------------------------------------------------------ what a run leaves behind


def test_a_run_gives_the_metrics_that_the_guide_names(done: Path) -> None:
    every, learning = set(range(1, STEPS + 1)), set(range(4, STEPS + 1))
    for name in ("speaker_acc", "grl_lambda", "emotion_norm", "lr"):
        assert series(done, f"train/{name}").keys() == every, name
    for name in ("gpt_loss", "speaker_loss"):
        assert series(done, f"train/{name}").keys() == learning, name
    assert series(done, "val/loss").keys() == {5, 10, 12}
    weighed = {
        step: 0.2 * text + 0.8 * series(done, "train/semantic_loss")[step]
        for step, text in series(done, "train/text_loss").items()
    }
    # A mean over batches of equal rows beside one over tokens.
    assert series(done, "train/gpt_loss") == pytest.approx(weighed, rel=0.05)


def test_the_header_tells_what_the_environment_set(done: Path) -> None:
    text = (done.parent / "done.txt").read_text()
    assert "note    BATCH_SIZE=2 from the environment" in text
    assert "note    GRAD_ACC=2 from the environment" in text
    header = json.loads((done / "config.json").read_text())
    assert "BATCH_SIZE" not in json.dumps(header), "the value is a knob like any other"
    assert "data.batch_size: 2\n" in (done / "config.txt").read_text()


def test_it_leaves_the_best_the_latest_and_the_configuration(done: Path) -> None:
    store = CheckpointStore(done / "checkpoints")
    latest, best = store.latest(pytest.fail), store.best(pytest.fail)
    assert latest is not None
    assert best is not None
    assert read_meta(latest)["step"] == STEPS
    for path in (latest, best):
        kept = {entry.name for entry in path.iterdir()}
        assert {"model.safetensors", "optimizer.pt", "state.pt", "assets", "config.py"} <= kept
        assert (path / "assets" / "speakers.json").is_file()
    metrics = read_meta(best)["metrics"]
    assert {"val/loss", "val/speaker_acc"} <= metrics.keys(), "both sides of the choice"
    results = json.loads((done / "results.json").read_text())
    assert {"val/loss", "test/loss", "test/emotion_use"} <= results.keys()


def test_the_best_is_of_the_time_after_the_ramp(done: Path) -> None:
    losses = series(done, "val/loss")
    assert set(losses) == {5, 10, 12}
    best = CheckpointStore(done / "checkpoints").best(pytest.fail)
    assert best is not None
    assert read_meta(best)["step"] >= 8


def test_the_export_is_what_stock_inference_loads(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpt.pth"
    assert export([str(done), f"indextts:{file}"]) == 0
    said = capsys.readouterr().out
    assert "left out: adversary, bound" in said
    assert "the mean of its emotion vectors was taken from emo_layer.bias" in said
    assert "emotion vectors have a root mean square of 1" in said
    stored = torch.load(file, weights_only=True)
    model = compose_target(STAGE2, tokens(done.parent)).config.task.model
    settings = {name: value for name, value in model.__arguments__.items() if name in PUBLISHED}
    assert {name: tuple(value.shape) for name, value in stored.items()} == shapes(**settings)
    best = CheckpointStore(done / "checkpoints").best(pytest.fail)
    assert best is not None
    weights = read_model(best)
    for name, value in stored.items():
        own = weights[f"model.{name}"]
        if name == "emo_layer.bias":  # Stock inference has no centre to take away.
            assert weights["bound.centre"].any()
            own = own - weights["bound.centre"]
        assert torch.equal(value, own), name


def test_the_export_starts_another_run(done: Path, tmp_path: Path) -> None:
    file = tmp_path / "gpt.safetensors"
    assert export([str(done), f"indextts:{file}", "--weights", "latest"]) == 0
    command = (STAGE2, *tokens(done.parent, max_steps=1, epochs=None))
    again = sori(
        "core.run", *command, "--init-from", f"indextts:{file}", "--run-dir", "again", cwd=tmp_path
    )
    assert f"weights from indextts:{file}:" in again.stdout
    first, former = read_model(newest(tmp_path / "again")), read_model(newest(done))
    for name, value in former.items():
        if name == "model.emo_layer.bias":
            value = value - former["bound.centre"]
        if name.startswith("model.") and name.endswith(("weight", "bias")):
            # One step of a tenth of the rate moves nothing far.
            torch.testing.assert_close(first[name], value, atol=5e-3, rtol=0.0, msg=name)


# ------------------------------------------------------------------------------- comparable runs


def test_the_twin_with_lambda_zero_differs_by_the_reversal_alone(done: Path, pairs: Path) -> None:
    outcome, _ = train(pairs, place=pairs / "twin", test=pairs / "pairs.jsonl", grl_lambda=0)
    twin = outcome.directory
    left, right = (dict_of(run) for run in (done, twin))
    for name in ("train/lr", "train/speaker_coverage", "train/speaker_chance"):
        assert series(done, name) == series(twin, name), name
    before = [(step, name) for step, name in left if step < REVERSED]
    assert len(before) > 40
    for key in before:
        assert left[key] == right[key], key
    assert set(series(twin, "train/grl_lambda").values()) == {0.0}
    assert series(twin, "train/speaker_acc").keys() == set(range(1, STEPS + 1))
    assert series(twin, "train/speaker_loss")[12] != series(done, "train/speaker_loss")[12]
    # The classifiers of the twin learn, and its model is what it would be without any.
    weights = read_model(newest(twin))
    assert weights["adversary.members.1.output.bias"].any()
    alone, _ = train(
        pairs,
        place=pairs / "alone",
        test=pairs / "pairs.jsonl",
        grl_lambda=0,
        speaker_loss_weight=0,
    )
    for name, value in read_model(newest(alone.directory)).items():
        assert torch.equal(value, weights[name]), name


def dict_of(run: Path) -> dict[tuple[int, str], float]:
    return {(s, name): v for s, values in repeatable_metrics(run) for name, v in values.items()}


def test_another_division_of_the_same_rows_keeps_the_schedule(pairs: Path, tmp_path: Path) -> None:
    train(pairs, place=tmp_path / "16x4", batch_size=16, grad_acc=1)
    train(pairs, place=tmp_path / "8x8", batch_size=8, grad_acc=2)
    rates = [series(tmp_path / name, "train/lr") for name in ("16x4", "8x8")]
    assert rates[0] == rates[1]
    assert len(rates[0]) == 3


def test_rows_a_step_may_be_divided_otherwise_on_resume_but_not_change(
    pairs: Path, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    with dying_at(4, saved=True):
        train(pairs, place=place)
    with pytest.raises(ConfigError, match="steps of 4 rows, and a step now has 6"):
        train(pairs, place=place, anyway=True, batch_size=3)
    outcome, _ = train(pairs, place=place, anyway=True, batch_size=1, grad_acc=4)
    assert outcome.status == "finished"
    assert series(place, "train/lr") == series(pairs / "done", "train/lr")
    assert read_meta(newest(place))["step"] == STEPS


# --------------------------------------------------------------------- the guide's troubleshooting


def test_speaker_accuracy_zero_a_mapping_without_hits_is_refused_with_the_counts(
    pairs: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "speakers.json"
    wrong.write_text(json.dumps({"KO_a": 0, "KO_b": 1}))
    with pytest.raises(DataError, match=r"0 of 48 rows, 0 of 4 speakers") as raised:
        train(pairs, place=tmp_path / "run", speakers=wrong)
    assert "python -m core.prepare speakers" in str(raised.value)
    with pytest.raises(DataError, match=r"set data\.speakers to a mapping"):
        train(pairs, place=tmp_path / "none", speakers=None)


def test_mel_not_found_says_what_to_run(tmp_path: Path) -> None:
    make_pairs(tmp_path, mels=0)
    with pytest.raises(DataError, match="mel not found: no row of 48") as raised:
        train(tmp_path)
    assert f"python -m core.prepare mel {tmp_path / 'pairs.jsonl'}" in str(raised.value)


def test_rows_that_the_model_cannot_read_are_left_out_and_named(tmp_path: Path) -> None:
    make_pairs(tmp_path)
    for file, place, value in (("text20", 1, 99_999), ("codes21", 0, 5000), ("codes22", -1, 257)):
        path = tmp_path / f"arrays/{file}.npy"
        values = np.load(path)
        values[place] = value
        np.save(path, values)
    with (tmp_path / "mel/T23.npy").open("wb") as mel:
        np.lib.format.write_array_header_1_0(
            mel, {"descr": "<f4", "fortran_order": False, "shape": (99_999_999_999, 80)}
        )
    outcome, said = train(tmp_path, batch_size=1)
    assert outcome.status == "finished"
    for part in (
        "T20__P20: text ids arrays/text20.npy: 99999 is not in the model's vocabulary",
        "T21__P21: code ids arrays/codes21.npy: 5000 is not in the model's vocabulary",
        "T22__P22: code ids arrays/codes22.npy: 257 is start or stop",
        "T23__P23: mel: not an array",
    ):
        assert f"val: skipped {part}" in said
    # Rows that are alone in their batch tell nothing of the vector's use.
    assert "val: nothing was counted for emotion_use" in said
    assert "ALARM emotion_unused" not in said
    results = json.loads((outcome.directory / "results.json").read_text())
    assert results["val/loss"] > 0.0
    assert "val/emotion_use" not in results
    assert results["val/skipped"] == 4.0


@pytest.mark.parametrize("model", [{"num_latents": 8}, {"dim": 16}])
def test_arrays_that_do_not_suit_the_model_are_refused_before_training(
    pairs: Path, tmp_path: Path, model: dict[str, int]
) -> None:
    own = {f"task.model.{name}": value for name, value in model.items()}
    with pytest.raises(DataError, match=r"condition: shape: arrays/condition0\.npy") as raised:
        train(pairs, place=tmp_path / "run", **own)
    shape = (model.get("num_latents", LATENTS), model.get("dim", WIDTH))
    assert f"expected {shape} floats, found float32 ({LATENTS}, {WIDTH})" in str(raised.value)


GREEDY = """
from __future__ import annotations

import torch

import experiments.stage2_grl as stage2
from components.models.unified_voice import UnifiedVoice
from experiments.presets import no_aim

read = UnifiedVoice.hidden


def hidden(self, latents, emotion, text, codes, *, duration=None):
    if self.training:
        torch.empty(2**60)
    return read(self, latents, emotion, text, codes, duration=duration)


UnifiedVoice.hidden = hidden
experiment = stage2.experiment
"""
"""The stage with a model that asks for more memory than any machine has."""


def test_out_of_memory_says_what_keeps_the_schedule_and_the_advice_can_be_taken(
    pairs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "greedy.py"
    file.write_text(GREEDY)
    own = tokens(pairs, batch_size=16, grad_acc=4, **{"task.adversary.pretrain_steps": 0})
    command = (*own, "--run-dir", "run")
    failed = sori("core.run", file, *command, cwd=tmp_path, expect=TrainingError.exit_code)
    assert "Traceback" not in failed.stderr
    for part in (
        "step 1: out of memory",
        "can't allocate memory",
        "data.batch_size=8 trainer.accumulation=8 (now 16 and 4)",
        "task.model.gradient_checkpointing=true",
        "a lower data.max_mel_frames (now 2584)",
        "trainer.precision=bf16 (now fp32)",
        "--resume run",
    ):
        assert part in failed.stderr, part
    place, whole = tmp_path / "run", {"task.adversary.pretrain_steps": 0}
    outcome, said = train(pairs, place=place, anyway=True, batch_size=8, grad_acc=8, **whole)
    assert outcome.status == "finished"
    assert "resumed with another setting: ~ data.batch_size:" in said
    with pytest.raises(ConfigError, match="steps of 64 rows, and a step now has 48"):
        train(pairs, place=place, anyway=True, batch_size=24, grad_acc=2, **whole)


def test_a_model_too_large_for_the_machine_is_refused_without_a_traceback(
    pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="making the model: out of memory") as raised:
        train(pairs, place=tmp_path / "run", **{"task.model.text_vocab": 2**50})
    assert "python -m core.inspect show" in str(raised.value)
