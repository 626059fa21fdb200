from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import fiddle as fdl
import pytest
import torch

from core.config.values import Symbol, format_value, holds_buildable, is_plain, matches
from core.contracts import Encoder
from tests.core.config.toy.parts import Mixing, Norm, times


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        (1.0, int, False),
        (None, int | None, True),
        (None, int, False),
        ("a", Literal["a"], True),
        (1, Literal[True], False),
        ([1], list[int], True),
        ([1, "a"], list[int], False),
        ((1,), list[int], False),
        ([1], tuple[int, ...], True),
        ([1, 2], tuple[int, int], False),
        ((1, 2), tuple[int, int], True),
        ("ab", Sequence[str], False),
        ({"a": 1}, Mapping[str, int], True),
        ({"a": "b"}, Mapping[str, int], False),
        (times, Callable[[int], int], True),
        (3, Callable[[int], int], False),
        (Mixing, type, True),
        (fdl.Config(Mixing), Encoder, True),
        (fdl.Config(Mixing), int, False),
        ([fdl.Config(Mixing)], tuple[Mixing, ...], True),
        (3, Encoder, False),
        (torch.float16, torch.dtype, True),
        (Path("x"), Path, True),
        ("x", Path, False),
        (3, Any, True),
    ],
)
def test_matches(value: object, annotation: Any, fits: bool) -> None:
    assert matches(value, annotation) is fits


def test_plain_values_are_those_that_can_be_saved() -> None:
    assert is_plain({"a": (1, None, Path("x"), Norm.BATCH, torch.float16, times)})
    assert not is_plain([Mixing()])
    assert not is_plain({1, 2})
    assert not is_plain(torch.device("cpu"))


def test_holds_buildable_looks_into_containers() -> None:
    assert holds_buildable({"a": [fdl.Config(Mixing)]})
    assert not holds_buildable({"a": [Mixing]})


def test_text_of_values_has_no_addresses_and_no_set_order() -> None:
    assert format_value({"b", "a", "c"}) == "{'a', 'b', 'c'}"
    assert format_value((1,)) == "(1,)"
    assert format_value({"x": Path("/y")}) == "{'x': Path('/y')}"
    assert format_value(Symbol("@encoder/x")) == "@encoder/x"
    assert format_value(subprocess.Popen) == "subprocess.Popen"
    assert format_value(object()) == "<object>"
    assert format_value(Norm.BATCH) == "tests.core.config.toy.parts.Norm.BATCH"
