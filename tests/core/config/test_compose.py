from __future__ import annotations

from pathlib import Path

import fiddle as fdl
import pytest

from core.config import snapshot
from core.config.compose import compose_target
from core.config.flatten import flat_text
from core.errors import ConfigError, ConfigErrors
from tests.core.config.conftest import ENCODERS, STAGE, Toy

HEADER = """\
import fiddle as fdl
from core.config.presets import preset
from core.experiment import Experiment
from core.train.trainer import Trainer
"""


def problems(toy: Toy, *tokens: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        toy.compose(*tokens)
    return list(caught.value.problems)


def test_knobs_are_typed_and_resolved(toy: Toy) -> None:
    composed = toy.compose("width=16", "rate=1", "scale=large", "train=nemo:/데이터=1.json")

    assert composed.knobs == {
        "scale": "large",
        "width": 16,
        "rate": 1.0,
        "train": "nemo:/데이터=1.json",
    }
    assert composed.config.name == "toy-large"
    assert composed.config.task.encoder.dim == composed.config.scheduler.d_model == 16
    assert composed.config.optimizer.lr == 1.0
    assert composed.config.data.train == "nemo:/데이터=1.json"
    assert composed.changes == []
    assert composed.target == "tests.core.config.toy.stage"


def test_knobs_then_presets_then_overrides_whatever_the_order_of_tokens(toy: Toy) -> None:
    composed = toy.compose("task.encoder.dim=256", "+narrow", "width=64", "+quick", "seed=3")

    assert composed.changes == [
        "task.encoder.dim: 64 -> 16 (+narrow)",
        "callbacks[1]: tests.core.config.toy.parts.ToyCallback -> (absent) (+quick)",
        "trainer.max_steps: 5 -> 1 (+quick)",
        "task.encoder.dim: 16 -> 256",
        "seed: 0 -> 3",
    ]
    assert composed.presets == ("narrow", "quick")
    assert composed.config.task.encoder.dim == 256
    assert len(composed.config.callbacks) == 1


def test_a_swapped_component_takes_overrides_of_its_own(toy: Toy) -> None:
    composed = toy.compose("task.tokenizer=@tokenizer/bpe", "data.tokenizer.vocab_size=77")

    assert composed.config.task.tokenizer.vocab_size == 77
    assert composed.changes[1].endswith("-> 77 (also changes task.tokenizer.vocab_size)")


def test_the_six_refusals_come_at_once_and_an_int_for_a_float_is_taken(toy: Toy) -> None:
    encoder = f"now 144, set at {toy.at('encoder=fdl.Config(')}"
    task = f"set at {toy.at('task=fdl.Config(')}"
    root = f"set at {toy.at('return fdl.Config(')}"

    found = problems(
        toy,
        "task.encoder.dmi=256",
        "task.encodr.dim=256",
        "task.encoder.dim=abc",
        "task.encoder.dim=3.5",
        "trainer.precision=bf61",
        "task.encoder=@head/ctc",
        "optimizer.lr=1",
    )

    assert found == [
        f"task.encoder.dmi: task.encoder is @encoder/conformer ({task}), which has no parameter "
        "'dmi'; did you mean 'task.encoder.dim'?",
        f"task.encodr.dim: task is tests.core.config.toy.parts.ToyTask ({root}), which has no "
        "parameter 'encodr'; did you mean 'task.encoder.dim'?",
        f"task.encoder.dim: expected int, got 'abc' ({encoder})",
        f"task.encoder.dim: expected int, got '3.5' ({encoder})",
        "trainer.precision: expected one of 'fp32', 'bf16', 'fp16', got 'bf61'; did you mean "
        "'bf16'? (now 'fp32', default of Trainer)",
        f"task.encoder takes an encoder; head/ctc is a head; encoders: {ENCODERS} "
        f"(now @encoder/conformer, {task})",
    ]
    assert toy.config("optimizer.lr=1").optimizer.lr == 1.0
    assert type(toy.config("optimizer.lr=1").optimizer.lr) is float


def test_bare_names(toy: Toy) -> None:
    assert problems(toy, "scal=large", "sead=3", "dim=4", "zzzzzz=1") == [
        "scal: neither a knob nor a parameter of Experiment; did you mean 'scale'?",
        "sead: neither a knob nor a parameter of Experiment; did you mean 'seed'?",
        "dim: neither a knob nor a parameter of Experiment; did you mean 'task.encoder.dim'?",
        "zzzzzz: neither a knob nor a parameter of Experiment; valid names: 'callbacks', 'data', "
        "'name', 'optimizer', 'rate', 'scale', 'scheduler', 'seed', 'task', 'trackers', 'train', "
        "'trainer', 'width'",
    ]


def test_bad_knobs_do_not_hide_other_problems(toy: Toy) -> None:
    where = toy.at("def experiment(")

    assert problems(toy, "scale=larg", "width=3.5", "task.dropout=x") == [
        "scale: expected one of 'small', 'large', got 'larg'; did you mean 'large'? "
        f"(a knob of {where}, default 'small')",
        f"width: expected int, got '3.5' (a knob of {where}, default 144)",
        "task.dropout: expected float, got 'x' (now 0.1, default of ToyTask)",
    ]


def test_presets_that_do_nothing_or_fail_are_refused(toy: Toy) -> None:
    idle, broken = problems(toy, "+idle", "+broken")
    file, _, line = toy.at("def idle(").rpartition(":")

    assert idle == f"+idle: changes nothing here ({file}:{int(line) - 1})"
    assert broken.startswith(
        f"+broken: {toy.at('widht')}: AttributeError: No parameter named 'widht' exists for "
    )


def test_what_is_below_a_refused_swap_is_not_complained_about(toy: Toy) -> None:
    found = problems(toy, "task.encoder=@encoder/nothing", "task.encoder.hidden=3", "seed=x")

    assert [text.partition(":")[0] for text in found] == ["task.encoder", "seed"]


def test_required_arguments_are_listed_at_once_with_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "sori_incomplete.py"
    path.write_text(
        f"{HEADER}from components.schedulers.noam import Noam\ndef experiment():\n"
        "    return fdl.Config(Experiment, name='x', trainer=fdl.Config(Trainer), "
        "scheduler=fdl.Config(Noam))\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        compose_target(str(path), ["scheduler.d_model=3"])

    assert list(caught.value.problems) == [
        "task: required by Experiment and not set; give it with task=@task/NAME",
        "data: required by Experiment and not set; give it with data=@data/NAME",
        "optimizer: required by Experiment and not set; give it with optimizer=@optimizer/NAME",
        "scheduler.warmup_steps: required by Noam and not set; give it with "
        "scheduler.warmup_steps=<int>",
    ]


def test_an_experiment_must_return_a_config_of_an_experiment(tmp_path: Path) -> None:
    for name, value, found in (
        ("sori_none", "None", "returned NoneType"),
        ("sori_other", "fdl.Config(Trainer)", "returned a Config of core.train.trainer.Trainer"),
    ):
        path = tmp_path / f"{name}.py"
        path.write_text(f"{HEADER}\ndef experiment():\n    return {value}\n")
        with pytest.raises(ConfigError) as caught:
            compose_target(str(path), [])
        assert str(caught.value) == f"{path}:6: {found}; expected fdl.Config[Experiment]"


def test_a_preset_that_returns_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sori_returning.py"
    path.write_text(
        f"{HEADER}\ndef experiment():\n    return fdl.Config(Experiment, name='x')\n"
        "@preset\ndef other(config):\n    config.name = 'y'\n    return config\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        compose_target(str(path), ["+other"])

    assert caught.value.problems[0] == (f"+other: {path}:8: must edit in place and return nothing")
    assert caught.value.problems[1].startswith("task: required by Experiment and not set; give it")


def save(toy: Toy, directory: Path, *tokens: str) -> fdl.Config:  # type: ignore[type-arg]
    composed = toy.compose(*tokens)
    header = {"target": composed.target, "knobs": dict(composed.knobs)}
    snapshot.save(composed.config, directory, header=header, allow=["tests"])
    return composed.config


def test_a_run_directory_is_composed_like_a_file(toy: Toy, tmp_path: Path) -> None:
    saved = save(toy, tmp_path, "width=16", "+quick")

    composed = compose_target(str(tmp_path), ["optimizer.lr=2"], allow=["tests"])

    assert composed.changes == ["optimizer.lr: 0.001 -> 2.0"]
    assert composed.knobs["width"] == 16
    assert composed.target == str(tmp_path)
    saved.optimizer.lr = 2.0
    assert flat_text(composed.config) == flat_text(saved)


def test_knobs_and_presets_of_a_saved_run_are_refused(toy: Toy, tmp_path: Path) -> None:
    save(toy, tmp_path)

    with pytest.raises(ConfigErrors) as caught:
        compose_target(str(tmp_path), ["width=16", "+quick", "task.dropout=x"], allow=["tests"])

    assert list(caught.value.problems) == [
        "+quick: a saved configuration takes no presets, only path=value",
        f"width=16: 'width' is a knob, and knobs were applied when {tmp_path} was made; override "
        "paths, or start from the experiment file",
        "task.dropout: expected float, got 'x' (now 0.1, default of ToyTask)",
    ]


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_target(str(tmp_path), [])

    assert str(caught.value) == (
        f"{tmp_path}: has no config.json; expected a run or checkpoint directory"
    )


def test_composing_twice_gives_equal_and_separate_configurations() -> None:
    first, second = compose_target(STAGE, []), compose_target(STAGE, [])
    first.config.task.dropout = 0.9

    assert second.config.task.dropout == 0.1
