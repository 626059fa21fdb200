"""The Stage 1 recipe: every value in a golden text, so that a change of one is seen in review.

After a change on purpose: ``python -m core.inspect show experiments/stage1_ctc.py scale=full``
gives the new text of ``tests/golden/stage1_ctc-full.txt``.
"""

from __future__ import annotations

from pathlib import Path

import fiddle as fdl
import pytest

from core.config import snapshot
from core.config.flatten import flat_text
from core.config.lint import lint
from core.experiment import Experiment
from experiments.stage1_ctc import experiment

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = pytest.mark.parametrize("scale", ["demo", "full"])


@SCALES
def test_matches_its_golden_text(scale: str) -> None:
    golden = (GOLDEN / f"stage1_ctc-{scale}.txt").read_text(encoding="utf-8")
    assert flat_text(experiment(scale=scale)).splitlines() == golden.splitlines()


@SCALES
def test_lints_clean_builds_and_survives_saving(scale: str, tmp_path: Path) -> None:
    config = experiment(scale=scale)
    assert lint(config) == []
    assert isinstance(fdl.build(config), Experiment)
    snapshot.save(config, tmp_path, header={})
    assert flat_text(snapshot.load(tmp_path)) == flat_text(config)


def test_full_scale_is_the_published_recipe() -> None:
    config = experiment(scale="full")
    encoder = config.task.encoder
    assert (encoder.dim, encoder.layers, encoder.heads) == (512, 12, 8)
    assert config.data.sample_rate == 16000
    assert config.data.max_batch == 32
    assert config.optimizer.lr == 1e-3
    assert config.scheduler.warmup_steps == 30_000
    assert config.trainer.validate_every == 1_000
    assert config.callbacks[3].every == 5_000


def test_given_training_data_replace_all_sources_of_the_demo() -> None:
    config = experiment(train="nemo:a.json", validation="nemo:b.json")
    assert config.data.train == "nemo:a.json"
    assert config.data.validation == {"val": "nemo:b.json"}
    assert config.data.test == {}
    assert config.data.tokenizer is config.task.tokenizer
