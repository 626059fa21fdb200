"""Stage 2 on pairs of random arrays, with a tiny model: a step takes some tens of milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from core.checkpoint.format import read_model, read_optimizer, read_state
from core.checkpoint.locate import resolve_checkpoint
from core.config.compose import compose_target
from core.prepare import main as prepare
from core.train.loop import Loop
from core.train.runner import Outcome, RunOptions, run
from tests.fixtures.pair_files import BINS, LATENTS, WIDTH, write_mel, write_pairs
from tests.integration.command import REPO, repeatable_metrics

STAGE2 = str(REPO / "experiments" / "stage2_grl.py")
ROWS = 48
STEPS = 12
"""Of 4 rows: 2 micro-batches of 2."""
SCHEDULE = {"pretrain_steps": 3, "schedule.hold_steps": 1, "schedule.ramp_steps": 4}
"""The reversal begins with step 6 and is in full strength from step 9 on."""
SMALL: Mapping[str, object] = {
    "batch_size": 2,
    "grad_acc": 2,
    "epochs": 1,
    "warmup_steps": 2,
    "task.model.dim": WIDTH,
    "task.model.layers": 1,
    "task.model.heads": 2,
    "task.model.num_latents": LATENTS,
    "task.model.speaker_dim": 8,
    "task.model.speaker_feed_forward": 8,
    "task.model.emotion_features": BINS,
    "task.model.emotion_dim": 8,
    "task.model.emotion_layers": 1,
    "task.model.emotion_feed_forward": 8,
    "task.model.emotion_perceiver_dim": 8,
    "task.model.perceiver_head_dim": 8,
    "task.adversary.classifier.hidden": 8,
    "task.adversary.members": 2,
    "task.adversary.steps": 2,
    "task.adversary.reinit_every": 4,
    "task.adversary.memory": 24,
    **{f"task.adversary.{name}": value for name, value in SCHEDULE.items()},
    "data.block": 16,
    "data.bucket": 4,
    "callbacks.4.every": 2,
    "trainer.log_every": 1,
    "trainer.validate_every": 5,
    "trainer.threads": 1,
    "trainer.device": "cpu",
}


class Dead(BaseException):
    """What ends a run that is to be resumed."""


def make_pairs(folder: Path, *, mels: int = ROWS) -> Path:
    """Write the manifest, the mapping of its four speakers, and the first mels."""
    manifest = write_pairs(folder, ROWS)
    if mels:
        make_mels(folder, mels)
    arguments = ["speakers", str(manifest), str(folder / "speakers.json"), "--all"]
    assert prepare(arguments) == 0
    return manifest


def make_mels(folder: Path, mels: int) -> None:
    """Give the first rows mel, and bring them to the front as a user does."""
    for target in range(mels):
        write_mel(folder, f"T{target}")
    assert prepare(["order", str(folder / "pairs.jsonl")]) == 0


def tokens(folder: Path, **changes: object) -> list[str]:
    """Return the command line on the pairs of ``folder``; None leaves a setting out."""
    own = {
        "train": folder / "pairs.jsonl",
        "validation": folder / "pairs.jsonl",
        "speakers": folder / "speakers.json",
    }
    settings = {**SMALL, **own, **changes}
    return ["+no_aim", *(f"{n}={v}" for n, v in settings.items() if v is not None)]


def train(
    folder: Path, *, place: Path | None = None, anyway: bool = False, **changes: object
) -> tuple[Outcome, str]:
    """Run the command; with ``anyway`` the run goes on although its configuration changed."""
    place = place or folder / "run"
    said: list[str] = []
    composed = compose_target(STAGE2, tokens(folder, **changes))
    options = RunOptions(resume=str(place)) if anyway else RunOptions(directory=place)
    return run(composed, options, said.append), "\n".join(said)


@contextmanager
def dying_at(step: int, *, saved: bool) -> Iterator[None]:
    """End a run after the work of ``step``, before or after what is saved then."""
    method = "_after_step" if saved else "_step"
    done: Any = getattr(Loop, method)

    def die(loop: Loop, given: Any) -> Any:
        result = done(loop, given)
        if loop.progress.step == step:
            raise Dead
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, method, die)
        with pytest.raises(Dead):
            yield


def newest(run_folder: Path) -> Path:
    return resolve_checkpoint(run_folder, prefer="latest")


def same_end(left: Path, right: Path) -> None:
    """Compare weights, classifiers with their moments, optimiser, position and metrics: bits."""
    ends = [newest(each) for each in (left, right)]
    assert ends[0].name == ends[1].name
    weights = [read_model(end) for end in ends]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    moments = [read_optimizer(end)["state"] for end in ends]
    for index, state in moments[0].items():
        for name, value in state.items():
            assert torch.equal(value, moments[1][index][name]), (index, name)
    states = [read_state(end) for end in ends]
    for part in ("stream", "schedule", "callbacks"):
        assert states[0][part] == states[1][part], part
    assert repeatable_metrics(left) == repeatable_metrics(right)


def series(run_folder: Path, name: str) -> dict[int, float]:
    """Return what was logged under a name, by step."""
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row[name] for row in rows if name in row}
