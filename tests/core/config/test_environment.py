from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from core.config.compose import Composed, compose
from core.config.environment import from_environment, read, variables_of
from core.config.load import ExperimentFile, load_experiment
from core.errors import ConfigErrors
from tests.core.config.conftest import STAGE

VARIABLES = {"WIDTH": "width", "RATE": "rate"}


@pytest.fixture
def file() -> ExperimentFile:
    return dataclasses.replace(load_experiment(STAGE), variables=VARIABLES)


def composed(
    file: ExperimentFile, patch: pytest.MonkeyPatch, *tokens: str, **variables: str
) -> Composed:
    for name, value in variables.items():
        patch.setenv(name, value)
    return compose(file, tokens)


def test_variables_set_knobs_and_are_part_of_what_the_run_is(
    file: ExperimentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = composed(file, monkeypatch, WIDTH="16", RATE="1e-4")
    assert found.notes == ("WIDTH=16 from the environment", "RATE=1e-4 from the environment")
    assert (found.knobs["width"], found.knobs["rate"]) == (16, 1e-4)
    assert (found.config.task.encoder.dim, found.config.optimizer.lr) == (16, 1e-4)


def test_the_command_line_wins_and_says_so(
    file: ExperimentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = composed(file, monkeypatch, "rate=2e-3", RATE="not looked at")
    assert found.config.optimizer.lr == 2e-3
    assert found.notes == ("RATE=not looked at in the environment is not used: rate=2e-3",)


def test_a_wrong_type_is_refused_by_the_variables_name_among_all_problems(
    file: ExperimentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigErrors) as caught:
        composed(file, monkeypatch, "scale=huge", WIDTH="wide")
    first, second = caught.value.problems
    assert first.startswith("environment variable WIDTH: expected int, got 'wide' (it sets 'width'")
    assert second.startswith("scale: expected one of 'small', 'large', got 'huge'")


def test_an_empty_variable_is_none_and_a_variable_is_read_when_composed_alone(
    file: ExperimentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = composed(file, monkeypatch, WIDTH=" ", RATE="")
    assert (found.notes, found.config.task.encoder.dim) == ((), 144)
    monkeypatch.setenv("WIDTH", "16")
    assert file.function().task.encoder.dim == 144


def test_a_function_without_the_mark_listens_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDTH", "16")
    assert compose(load_experiment(STAGE), []).config.task.encoder.dim == 144


def test_each_variable_is_the_name_of_a_knob(tmp_path: Path) -> None:
    @from_environment("LR", "GRAD_ACC")
    def marked(*, lr: float = 1.0, grad_acc: int = 1) -> None:
        """Do nothing."""

    assert variables_of(marked) == {"LR": "lr", "GRAD_ACC": "grad_acc"}
    assert read(variables_of(marked), {"LR": "2", "lr": "3"}, {}) == (
        {"lr": "2"},
        ["LR=2 from the environment"],
    )
    path = tmp_path / "sori_environment.py"
    path.write_text(
        "from core.config.environment import from_environment\n"
        "@from_environment('LR', 'WIDHT')\n"
        "def experiment(*, lr: float = 1.0, width: int = 1):\n    return None\n"
    )
    with pytest.raises(ConfigErrors, match="WIDHT sets 'widht', which is no knob; did you mean"):
        load_experiment(str(path))
