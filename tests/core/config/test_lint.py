from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fiddle as fdl
import pytest
import torch
from torch import nn

from components.heads.ctc import CTCHead
from core.config.lint import lint
from tests.core.config.conftest import ENCODERS, Toy
from tests.core.config.toy.parts import Mixing, NoSuchScheduler, times

if TYPE_CHECKING:
    from decimal import Decimal


class Loose:
    def __init__(self, *, size: int = 1, **rest: int) -> None: ...


class Starred:
    def __init__(self, *sizes: int) -> None: ...


class Mutable:
    def __init__(self, *, names: list[str] = ["a"]) -> None: ...  # noqa: B006


class Unresolved:
    def __init__(self, *, amount: Decimal) -> None: ...


class WrongDefault:
    def __init__(self, *, size: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013


class Bare(nn.Module):
    pass


class Abstract(ABC):
    @abstractmethod
    def run(self) -> None: ...


@dataclass(kw_only=True)
class Hiding:
    mixing: Mixing = field(default_factory=Mixing)
    labels: list[str] = field(default_factory=list)


@dataclass
class Wrapper:
    inside: Any = None


HERE = "tests.core.config.test_lint"


def test_a_good_configuration_has_no_problem(toy: Toy) -> None:
    assert lint(toy.config()) == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (fdl.Config(Loose), f"{HERE}.Loose: takes **rest, where a mistyped name goes unseen"),
        (fdl.Config(Starred), f"{HERE}.Starred: takes *sizes, where a mistyped name goes unseen"),
        (
            fdl.Config(Mutable),
            f"{HERE}.Mutable: parameter 'names' has the mutable default ['a']; use a ",
        ),
        (
            fdl.Config(Unresolved, amount=1),
            f"{HERE}.Unresolved: type hints do not resolve: name 'Decimal' is not defined; import "
            "the name at run time, not under TYPE_CHECKING",
        ),
        (
            fdl.Config(Hiding),
            f"{HERE}.Hiding: field 'mixing' hides a Mixing in its default_factory, where no "
            "override reaches it; make it required and configure it",
        ),
        (
            fdl.Config(WrongDefault),
            "data.anything.size: expected int, got None (default of WrongDefault)",
        ),
        (
            Wrapper(fdl.Config(Mixing)),
            f"data.anything: an object of {HERE}.Wrapper holds a fdl.Config, which would never be "
            "built; describe the object itself with fdl.Config",
        ),
        (
            {fdl.Config},
            "data.anything: an object of set can be neither overridden nor saved; describe it "
            "with fdl.Config",
        ),
        (
            torch.device("cpu"),
            "data.anything: a torch.device cannot be saved with a run; give its name as a string",
        ),
        (
            torch.zeros(1),
            "data.anything: an object of torch.Tensor can be neither overridden nor saved",
        ),
        (fdl.Config(Abstract), f"{HERE}.Abstract: is abstract and cannot be built"),
        (fdl.Config(Bare, typo=1), "data.anything.typo: Bare has no parameter 'typo'; "),
    ],
)
def test_traps_are_found(toy: Toy, value: object, problem: str) -> None:
    config = toy.config()
    config.data.anything = value

    found = lint(config)

    assert len(found) == 1
    assert found[0].startswith(problem)


def test_local_functions_and_lambdas_are_refused(toy: Toy) -> None:
    config = toy.config()

    def local(value: int) -> int:
        return value

    config.data.anything = local
    config.data.sort = fdl.Partial(lambda value: value)
    name = f"{HERE}.test_local_functions_and_lambdas_are_refused.<locals>"

    found = lint(config)

    assert found[0] == (
        f"{name}.<lambda>: is not at module level, so that a run could not be replayed; move it "
        "there"
    )
    assert found[1].startswith(f"data.anything: {name}.local is not at module level, so that ")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("task.dropout", "0.1", "task.dropout: expected float, got '0.1' (set at "),
        ("task.encoder.dim", True, "task.encoder.dim: expected int, got True (set at "),
        ("data.validation", {"dev": 3}, "data.validation: expected mapping of str to str, got "),
        ("trainer.precision", "int8", "trainer.precision: expected one of 'fp32', 'bf16', 'fp16'"),
        ("callbacks", [3], "callbacks: expected list of Callback, got [3] (set at "),
        ("callbacks", [fdl.Config(Mixing)], "callbacks[0]: expected a Callback, and tests.core"),
        (
            "task.encoder",
            fdl.Config(CTCHead),
            f"task.encoder takes an encoder; head/ctc is a head; encoders: {ENCODERS} (now @head",
        ),
        (
            "scheduler",
            fdl.Config(NoSuchScheduler),
            "scheduler: expected Scheduler, and tests.core.config.toy.parts.NoSuchScheduler lacks "
            "factor (now tests.core.config.toy.parts.NoSuchScheduler, set at ",
        ),
        (
            "task.mixing",
            fdl.Partial(Mixing),
            "task.mixing is fdl.Partial, and would stay a function; use fdl.Config to build ",
        ),
        (
            "data.sort",
            fdl.Config(Mixing),
            "data.sort takes a function, and objects of tests.core.config.toy.parts.Mixing cannot",
        ),
        ("task.encoder.dim", fdl.Config(Mixing), "task.encoder.dim: expected int, found tests."),
    ],
)
def test_values_and_components_that_do_not_fit(
    toy: Toy, path: str, value: object, problem: str
) -> None:
    config = toy.config()
    holder, _, name = path.rpartition(".")
    owner = config
    for step in holder.split(".") if holder else []:
        owner = getattr(owner, step)
    setattr(owner, name, value)

    found = lint(config)

    assert len(found) == 1
    assert found[0].startswith(problem)


def test_missing_arguments_come_with_what_to_type(toy: Toy) -> None:
    config = toy.config()
    del config.task.encoder
    del config.optimizer.lr
    del config.data.validation

    assert lint(config) == [
        "task.encoder: required by ToyTask and not set; give it with task.encoder=@encoder/NAME",
        "data.validation: required by ToyData and not set; give it with "
        "data.validation=<mapping of str to str>",
        "optimizer.lr: required by AdamW and not set; give it with optimizer.lr=<float>",
    ]


@pytest.mark.parametrize("compiled_before", [False, True])
def test_a_module_without_a_constructor_is_good(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, compiled_before: bool
) -> None:
    if compiled_before:  # torch.compile replaces the constructor of all modules

        def patched(self: nn.Module, *args: object, **kwargs: object) -> None: ...

        monkeypatch.setattr(nn.Module, "__init__", patched)
    config = toy.config()
    config.data.anything = fdl.Config(Bare)

    assert lint(config) == []


def test_a_shared_problem_is_told_once(toy: Toy) -> None:
    config = toy.config()
    config.task.tokenizer.lowercase = "yes"

    assert len(lint(config)) == 1


def test_a_partial_where_a_function_is_called(toy: Toy) -> None:
    config = toy.config()
    config.optimizer = fdl.Partial(times, factor=2)

    assert lint(config) == []
