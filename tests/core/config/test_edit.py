from __future__ import annotations

from core.config.edit import assign, change_line
from core.config.paths import parse_path, resolve
from tests.core.config.conftest import Toy


def test_a_leaf_is_set_and_the_change_is_told(toy: Toy) -> None:
    config = toy.config()

    line = assign(config, resolve(config, parse_path("task.dropout")), 0.5)

    assert line == "task.dropout: 0.1 -> 0.5"
    assert config.task.dropout == 0.5


def test_a_shared_owner_names_its_other_paths(toy: Toy) -> None:
    config = toy.config()

    line = assign(config, resolve(config, parse_path("data.tokenizer.lowercase")), True)

    assert line == (
        "data.tokenizer.lowercase: False -> True (also changes task.tokenizer.lowercase)"
    )


def test_defaults_and_shared_lists_are_never_edited_in_place(toy: Toy) -> None:
    config = toy.config()
    labels = ["a", "b"]
    config.data.folds = labels
    config.data.anything = labels

    assign(config, resolve(config, parse_path("data.folds[0]")), "c")
    assign(config, resolve(config, parse_path("data.shape[0]")), 1)

    assert config.data.folds == ["c", "b"]
    assert config.data.anything == labels == ["a", "b"]
    assert config.data.shape == (1, 100)
    assert toy.config().data.shape == (80, 100)


def test_an_equal_value_is_told_as_unchanged(toy: Toy) -> None:
    config = toy.config()

    line = assign(config, resolve(config, parse_path("data.validation.dev")), "demo:dev")

    assert line == "data.validation.dev: 'demo:dev' -> 'demo:dev' (unchanged)"


def test_notes_and_aliases_are_joined() -> None:
    line = change_line(("a", "b"), "1", "2", [("c", 0)], ["kept x"])

    assert line == "a.b: 1 -> 2 (kept x; also changes c[0])"
