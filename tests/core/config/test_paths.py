from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.paths import (
    PathError,
    glob_matches,
    is_glob,
    parse_path,
    resolve,
    split_assignment,
)
from core.config.tree import KeyPath, format_path
from tests.core.config.conftest import Toy


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b.c", ("a", "b", "c")),
        ("callbacks[0].every", ("callbacks", 0, "every")),
        ("callbacks.0.every", ("callbacks", 0, "every")),
        ("a[0][1]", ("a", 0, 1)),
        ('a["x.y=z"].b', ("a", "x.y=z", "b")),
        ("a['x y']", ("a", "x y")),
        ("data.validation.한글", ("data", "validation", "한글")),
    ],
)
def test_parse(text: str, path: KeyPath) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize("text", ["", ".a", "a..b", "a.", "[0]", "a[x]", "a b", "a]"])
def test_what_is_not_a_path_is_refused(text: str) -> None:
    with pytest.raises(PathError, match="path"):
        parse_path(text)


@given(st.lists(st.integers(0, 99) | st.text("ab.한 -9", min_size=1), max_size=4))
def test_what_is_formatted_is_parsed_back(steps: list[str | int]) -> None:
    path = ("root", *steps)

    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("**.dropout", "dropout", True),
        ("**.dropout", "task.encoder.dropout", True),
        ("**.dropout", "task.encoder.dropouts", False),
        ("task.*.dim", "task.encoder.dim", True),
        ("task.*.dim", "task.dim", False),
        ("task.**.dim", "task.dim", True),
        ("task.**.dim", "task.a.b.dim", True),
        ("task.**.dim", "data.a.dim", False),
        ("callbacks.*.every", "callbacks[3].every", True),
        ("*.drop*", "task.dropout", True),
        ("task.encode?", "task.encoder", True),
    ],
)
def test_globs(pattern: str, text: str, fits: bool) -> None:
    assert glob_matches(tuple(pattern.split(".")), parse_path(text)) is fits
    assert is_glob(pattern)
    assert not is_glob(text)


def test_resolve_takes_both_ways_of_writing_an_index(toy: Toy) -> None:
    config = toy.config()

    for text in ("callbacks[1].name", "callbacks.1.name"):
        slot = resolve(config, parse_path(text))
        assert slot.value == "second"
        assert format_path(slot.path) == "callbacks[1].name"


def test_resolve_finds_mapping_keys_and_defaults(toy: Toy) -> None:
    config = toy.config()

    assert resolve(config, parse_path('data.validation["test.clean"]')).value == "demo:test"
    assert resolve(config, parse_path("data.shape[1]")).value == 100


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("a.b=c", ("a.b", "c")),
        ("a=b=c", ("a", "b=c")),
        ('a["x=y"].b=z', ('a["x=y"].b', "z")),
        ("a=", ("a", "")),
        ("a=line\nline", ("a", "line\nline")),
        ("a", None),
    ],
)
def test_tokens_are_split_at_the_first_equals_sign_outside_brackets(
    token: str, parts: tuple[str, str] | None
) -> None:
    assert split_assignment(token) == parts
