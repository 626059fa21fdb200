"""The adapter's recipe: every value in a golden text, so that a change of one is seen in review.

After a change on purpose: ``python -m core.inspect show experiments/asr_adapter.py scale=full``
gives the new text of ``tests/golden/asr_adapter-full.txt``, without the lines of the model's size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest

from core.config import snapshot
from core.config.compose import compose_target
from core.config.flatten import flat_text
from core.config.lint import lint
from core.errors import CheckpointError, ConfigError
from core.experiment import Experiment
from core.train.dryrun import dry_run
from experiments.asr_adapter import experiment

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = pytest.mark.parametrize("scale", ["demo", "full"])


@SCALES
def test_matches_its_golden_text(scale: Any) -> None:
    golden = (GOLDEN / f"asr_adapter-{scale}.txt").read_text(encoding="utf-8")
    assert flat_text(experiment(scale=scale)).splitlines() == golden.splitlines()


@SCALES
def test_lints_clean_builds_and_survives_saving(scale: Any, tmp_path: Path) -> None:
    config = experiment(scale=scale)
    assert lint(config) == []
    assert isinstance(fdl.build(config), Experiment)
    snapshot.save(config, tmp_path, header={})
    assert flat_text(snapshot.load(tmp_path)) == flat_text(config)


def test_full_scale_is_the_recipe() -> None:
    config = experiment(scale="full")
    lora = config.task.model.lora
    assert (lora.rank, lora.alpha, lora.targets) == (8, 16, "projector")
    assert config.task.model.quantization == "nf4"
    assert config.task.model.gradient_checkpointing
    assert (config.trainer.max_epochs, config.trainer.accumulation) == (2, 4)
    assert (config.data.batch_size, config.trainer.precision) == (8, "bf16")
    assert (config.data.min_seconds, config.data.max_seconds) == (3.0, 25.0)
    assert config.optimizer.lr == 1e-4
    assert config.task.language == "ko"
    schedule = fdl.build(config.scheduler)
    from core.contracts import Extent

    schedule.plan(Extent(total_steps=1000, rows_per_step=32))
    assert [schedule.factor(step, None) for step in (500, 1000)] == pytest.approx([0.5, 0.0])


def test_the_dry_run_gives_the_published_counts_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    lines = dry_run(compose_target("experiments.asr_adapter", ["scale=full"]))
    text = "\n".join(lines)
    for words in ("4,676,271,104", "114,688", "9.356 GB", "3.661 GB"):
        assert words in text


def test_the_dry_run_refuses_what_is_no_language() -> None:
    with pytest.raises(ConfigError, match=r"task\.language: .*did you mean 'ko'"):
        dry_run(compose_target("experiments.asr_adapter", ["scale=full", "language=korean"]))


def test_without_weights_one_line_says_what_is_missing_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.contracts import RunContext

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    built: Experiment = fdl.build(experiment(scale="full"))
    with pytest.raises(CheckpointError) as refused:
        built.data.setup(RunContext(assets=tmp_path / "assets"))
    message = str(refused.value)
    assert "\n" not in message
    for words in ("config.json", "tekken.json", "model.safetensors", "base=FOLDER", "hub"):
        assert words in message


def test_one_model_is_adapted_and_asked_for_its_encoder() -> None:
    for scale in ("demo", "full"):
        config = experiment(scale=scale, base="folder")  # type: ignore[arg-type]
        assert config.data.model is config.task.model
        assert config.data.text is config.task.text
        assert config.task.model.base == "folder"


def test_given_sources_replace_all_of_the_demos() -> None:
    config = experiment(train="nemo:a.json", validation="nemo:b.json", language="en")
    assert config.data.train == "nemo:a.json"
    assert config.data.validation == {"val": "nemo:b.json"}
    assert config.data.test == {}
    assert (config.task.language, config.task.text.language) == ("en", "en")


@pytest.mark.parametrize("language", ["fr", "it"])
def test_other_languages_keep_their_apostrophes(language: str) -> None:
    config = experiment(language=language)
    assert fdl.build(config.task.text)("L'eau dell'anno.") == "L'eau dell'anno"
    assert config.data.text is config.task.text
