from __future__ import annotations

from dataclasses import dataclass, field

import fiddle as fdl

from core.config.tree import (
    UNSET,
    default_of,
    format_path,
    missing_arguments,
    paths_to,
    slots_of,
    walk,
)
from tests.core.config.conftest import Toy
from tests.core.config.toy.parts import ToyTask, times


@dataclass
class Lists:
    names: list[str] = field(default_factory=list)


def test_slots_carry_value_default_and_annotation() -> None:
    slots = {slot.parameter: slot for slot in slots_of(fdl.Config(ToyTask, dropout=0.3))}

    assert slots["dropout"].value == 0.3
    assert not slots["dropout"].default
    assert slots["dropout"].annotation is float
    assert slots["mixing"].value is None
    assert slots["mixing"].default
    assert slots["encoder"].value is UNSET


def test_a_default_factory_gives_a_fresh_value_each_time() -> None:
    config = fdl.Config(Lists)

    assert default_of(config, "names") == []
    assert default_of(config, "names") is not default_of(config, "names")


def test_walk_reaches_every_path_of_a_shared_node(toy: Toy) -> None:
    paths = [format_path(slot.path) for slot in walk(toy.config())]

    assert len(paths) == len(set(paths))
    assert {"task.tokenizer.lowercase", "data.tokenizer.lowercase"} <= set(paths)
    assert {"callbacks[1].name", "data.validation.dev", "data.shape[1]"} <= set(paths)


def test_paths_to_a_shared_node(toy: Toy) -> None:
    config = toy.config()

    paths = paths_to(config, config.task.tokenizer)

    assert [format_path(path) for path in paths] == ["task.tokenizer", "data.tokenizer"]
    assert paths_to(config, config) == [()]


def test_missing_arguments_are_all_listed_once(toy: Toy) -> None:
    config = toy.config()
    shared = fdl.Config(ToyTask)
    config.task, config.data.anything = shared, shared

    found = [format_path(slot.path) for slot in missing_arguments(config)]

    assert found == ["task.encoder", "task.head", "task.tokenizer"]


def test_a_partial_may_leave_arguments_open() -> None:
    assert missing_arguments(fdl.Config(dict, f=fdl.Partial(times))) == []


def test_odd_keys_are_quoted_in_paths() -> None:
    assert format_path(("a", 0, "b_c", "x.y", "한글")) == 'a[0].b_c["x.y"].한글'
