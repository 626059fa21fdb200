"""The Stage 2 recipe: every value in a golden text, so that a change of one is seen in review.

After a change on purpose: ``python -m core.inspect show experiments/stage2_grl.py scale=full``
gives the new text of ``tests/golden/stage2_grl-full.txt``, without the lines that begin with ``#``;
with ``+stable`` that of ``stage2_grl-full-stable.txt``, without the lines that tell changes.
"""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest

from components.adversary.limits import adversary_limits
from core.config import snapshot
from core.config.compose import compose_target
from core.config.diff import differences
from core.config.flatten import fingerprint, flat_text
from core.config.lint import lint
from core.contracts import Extent
from core.errors import ConfigError, ConfigErrors
from core.experiment import Experiment
from core.train.callbacks.checkpoints import Checkpoints
from core.train.parameters import parameter_counts
from experiments.stage2_grl import experiment

GOLDEN = Path(__file__).parents[1] / "golden"
FILE = "experiments.stage2_grl"
TEXTS = {
    "demo": [],
    "full": ["scale=full"],
    "full-stable": ["scale=full", "+stable"],
}
SCALES = pytest.mark.parametrize("scale", ["demo", "full"])


@pytest.mark.parametrize("name", TEXTS)
def test_matches_its_golden_text(name: str) -> None:
    golden = (GOLDEN / f"stage2_grl-{name}.txt").read_text(encoding="utf-8")
    found = compose_target(FILE, TEXTS[name]).config
    assert flat_text(found).splitlines() == golden.splitlines()


@SCALES
def test_lints_clean_builds_and_survives_saving(scale: Any, tmp_path: Path) -> None:
    config = experiment(scale=scale)
    assert lint(config) == []
    assert isinstance(fdl.build(config), Experiment)
    snapshot.save(config, tmp_path, header={})
    assert flat_text(snapshot.load(tmp_path)) == flat_text(config)


def test_full_scale_has_the_published_parameters() -> None:
    built: Experiment = fdl.build(experiment(scale="full"))
    built.task.outline()  # creates the parameters, without memory
    model = built.task.model
    assert parameter_counts(model.gpt)[1] == 472_261_120
    # 80 mel bins in place of 1,024 features make one layer of the published model smaller.
    fewer = 512 * 512 * ((1024 - 1) // 2 - (80 - 1) // 2)
    assert parameter_counts(model)[1] == 865_980_639 - fewer
    frozen = [model.conditioning_encoder, model.perceiver_encoder]
    still = sum(parameter_counts(module)[1] for module in frozen)
    assert parameter_counts(built.task)[0] == parameter_counts(model)[1] - still


def test_full_scale_has_the_guides_values() -> None:
    config = experiment(scale="full")
    assert (config.data.batch_size, config.trainer.accumulation) == (16, 4)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (2e-4, 0.01)
    assert config.optimizer.betas == (0.9, 0.999)
    assert (config.trainer.max_epochs, config.trainer.max_steps) == (1, None)
    assert (config.trainer.clip_norm, config.trainer.precision) == (0.5, "fp32")
    assert (config.trainer.log_every, config.trainer.validate_every) == (100, 500)
    assert config.data.workers == 32
    task = config.task
    assert (task.adversary.schedule.value, task.speaker_weight) == (1.0, 0.1)
    assert (task.text_weight, task.semantic_weight) == (0.2, 0.8)
    schedule = fdl.build(config.scheduler)
    # The guide's corners, once the classifiers have had their 500 steps.
    assert schedule.wait_steps == task.adversary.pretrain_steps == 500
    schedule.plan(Extent(total_steps=85_685 + 500, rows_per_step=64))
    assert schedule.factor(500, None) == 0.0
    assert schedule.factor(501, None) == 1 / 1000
    assert schedule.factor(1500, None) == schedule.factor(77_716, None) == 1.0
    assert schedule.factor(1499, None) < 1.0
    assert schedule.factor(77_717, None) < 1.0


def test_the_reversal_is_zero_at_first_and_ramps_in_its_own_steps() -> None:
    for rows in (None, 1000):
        schedule = fdl.build(experiment(scale="full", limit=rows).task.adversary.schedule)
        assert schedule(0) == 0.0
        assert schedule(500) == pytest.approx(0.462, abs=1e-3)
        assert schedule(5000) == pytest.approx(1.0, abs=1e-3)


@SCALES
def test_the_best_is_looked_for_after_the_ramp_alone(scale: Any) -> None:
    config = experiment(scale=scale)
    task = fdl.build(config.task)
    schedule = task.adversary.reversal.schedule
    at_end = task.ready_from() - task.adversary.pretrain_steps
    assert schedule(at_end) == schedule(at_end + 1) > 0.0
    assert schedule(at_end - 1) < schedule(at_end)
    assert config.trainer.max_steps is None or task.ready_from() < config.trainer.max_steps
    (saving,) = (c for c in map(fdl.build, config.callbacks) if isinstance(c, Checkpoints))
    assert saving.best_from is None


@SCALES
def test_every_alarm_of_an_adversary_is_set(scale: Any) -> None:
    (alarms,) = (c for c in experiment(scale=scale).callbacks if "limits" in c.__arguments__)
    assert [limit.name for limit in alarms.limits] == [limit.name for limit in adversary_limits()]


@SCALES
def test_the_twin_differs_in_the_factor_of_the_reversal_alone(scale: Any) -> None:
    (change,) = differences(experiment(scale=scale), experiment(scale=scale, grl_lambda=0.0))
    assert (change.path, change.new) == ("task.adversary.schedule.value", "0.0")


def test_the_demo_has_all_its_parts_in_the_form_of_the_real_thing() -> None:
    demo, full = experiment(), experiment(scale="full")
    for path in ("task", "task.adversary", "data", "scheduler", "optimizer"):
        first, second = (attrgetter(path)(config) for config in (demo, full))
        assert fdl.get_callable(first) is fdl.get_callable(second), path


def test_given_manifests_replace_all_of_the_demos() -> None:
    config = experiment(train="a.jsonl", speakers="s.json", emo_source="prompt")
    assert (config.data.train, config.data.speakers) == ("a.jsonl", "s.json")
    assert (config.data.validation, config.data.test) == ({}, {})
    assert config.data.emotion == "prompt"
    config = experiment(train="a.jsonl", speakers="s.json", validation="b.jsonl", test="c.jsonl")
    assert (config.data.validation, config.data.test) == ({"val": "b.jsonl"}, {"test": "c.jsonl"})


# The names of the guide, its values in text, and where they belong.
ENVIRONMENT = {
    "BATCH_SIZE": ("8", "data.batch_size", "8"),
    "GRAD_ACC": ("2", "trainer.accumulation", "2"),
    "LR": ("1e-4", "optimizer.lr", "0.0001"),
    "WARMUP_STEPS": ("2000", "scheduler.warmup_steps", "2000"),
    "GRL_LAMBDA": ("0.5", "task.adversary.schedule.value", "0.5"),
    "SPEAKER_LOSS_WEIGHT": ("0.3", "task.speaker_weight", "0.3"),
    "NUM_WORKERS": ("4", "data.workers", "4"),
    "LIMIT": ("1000", "data.limit", "1000"),
    "EPOCHS": ("3", "trainer.max_epochs", "3"),
}


def test_the_guides_environment_sets_knobs_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compose_target(FILE, ["scale=full"])
    for name, (text, _, _) in ENVIRONMENT.items():
        monkeypatch.setenv(name, text)
    found = compose_target(FILE, ["scale=full"])
    assert sorted(found.notes) == sorted(
        f"{name}={text} from the environment" for name, (text, _, _) in ENVIRONMENT.items()
    )
    changes = {change.path: change.new for change in differences(before.config, found.config)}
    assert changes == {path: value for _, path, value in ENVIRONMENT.values()}
    assert fingerprint(before.config) != fingerprint(found.config)


def test_the_environment_is_the_same_as_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = compose_target(FILE, ["scale=full", "grl_lambda=0", "max_steps=70"])
    monkeypatch.setenv("GRL_LAMBDA", "0")
    monkeypatch.setenv("MAX_STEPS", "70")
    told = compose_target(FILE, ["scale=full"])
    assert fingerprint(told.config) == fingerprint(typed.config)
    assert told.config.trainer.max_epochs is None
    monkeypatch.setenv("MAX_STEPS", "0")
    assert compose_target(FILE, ["scale=full"]).config.trainer.max_epochs == 1


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LR", "1e-4")
    found = compose_target(FILE, ["lr=3e-4"])
    assert found.config.optimizer.lr == 3e-4
    assert found.notes == ("LR=1e-4 in the environment is not used: lr=3e-4",)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LR": "fast"}, r"environment variable LR: expected float .*got 'fast' .*it sets 'lr'"),
        ({"BATCH_SIZE": "16.5"}, "environment variable BATCH_SIZE: expected int"),
    ],
)
def test_an_environment_of_the_wrong_type_is_refused(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigErrors, match=words):
        compose_target(FILE, ["scale=full"])


def test_epochs_and_max_steps_are_not_both_given() -> None:
    with pytest.raises(ConfigError, match="epochs=2 and max_steps=9: give one of them"):
        experiment(epochs=2, max_steps=9)


def test_stable_leaves_alone_what_a_knob_has_set() -> None:
    config = compose_target(FILE, ["scale=full", "+stable", "grl_lambda=0"]).config
    assert config.task.adversary.schedule.value == 0.0
    assert (config.optimizer.lr, config.scheduler.warmup_steps) == (2e-5, 2000)
    assert config.trainer.precision == "bf16"
    with pytest.raises(ConfigErrors, match=r"\+stable: .*these values are for scale=full"):
        compose_target(FILE, ["+stable"])
