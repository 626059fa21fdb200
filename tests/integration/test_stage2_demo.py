"""The demo of Stage 2 as it is, on a little of its corpus, up to a file for stock inference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.config.compose import compose_target
from tests.components.models.published import PUBLISHED, shapes
from tests.integration.command import sori
from tests.integration.stage2 import STAGE2

LITTLE = "?utterances=60"
DATA = {
    "data.train": "demo:train",
    "data.validation.val": "demo:validation",
    "data.test.probe": "demo:probe",
    "data.test.unseen": "demo:unseen",
    "data.speakers": "demo:speakers",
}


@pytest.mark.slow
def test_the_demo_trains_is_tested_and_goes_out_as_published(tmp_path: Path) -> None:
    settings = [f"{path}={uri}{LITTLE}" for path, uri in DATA.items()]
    command = (STAGE2, *settings, "+no_aim", "max_steps=3", "trainer.log_every=1")
    done = sori("core.run", *command, "--run-dir", "run", cwd=tmp_path)
    assert "an open set of speakers" in done.stdout
    assert "no checkpoint will be BEST: training ends at step 3" in done.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"val/loss", "probe/loss", "probe/speaker_acc", "unseen/loss"} <= results.keys()
    assert results["unseen/speaker_acc"] is None, "none of these speakers has a class"

    sori("core.export", "run", "indextts:gpt.pth", cwd=tmp_path)
    model = compose_target(STAGE2, []).config.task.model
    widths = {name: value for name, value in model.__arguments__.items() if name in PUBLISHED}
    stored = torch.load(tmp_path / "gpt.pth", weights_only=True)
    assert {name: tuple(value.shape) for name, value in stored.items()} == shapes(**widths)
