from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NewType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config.types import CoerceError, coerce
from core.contracts import Encoder

Hertz = NewType("Hertz", int)


class Norm(enum.Enum):
    BATCH = "batch"
    LAYER = "layer"


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("1_000", int, 1000),
        ("16000", Hertz, 16000),
        ("1", float, 1.0),
        ("1e-3", float, 1e-3),
        (".5", float, 0.5),
        ("-inf", float, -math.inf),
        ("true", bool, True),
        ("No", bool, False),
        ("on", bool, True),
        ("abc", str, "abc"),
        ("", str, ""),
        ("null", str, "null"),
        ("null", str | None, None),
        ("None", int | None, None),
        ("a=b=c", str, "a=b=c"),
        ("안녕 하세요", str, "안녕 하세요"),
        ("bf16", Literal["fp32", "bf16"], "bf16"),
        ("4", Literal[2, 4], 4),
        ("auto", int | Literal["auto"], "auto"),
        ("7", int | Literal["auto"], 7),
        ("7", str | int, 7),
        ("7x", str | int, "7x"),
        ("1", int | float, 1),
        ("1.5", int | float, 1.5),
        ("[1, 2]", list[int], [1, 2]),
        ("[]", list[int], []),
        ("[1, 2,]", list[float], [1.0, 2.0]),
        ("(1, 2)", tuple[int, ...], (1, 2)),
        ("[0.9, 0.98]", tuple[float, float], (0.9, 0.98)),
        ("[a, b]", Sequence[str], ("a", "b")),
        ("['a, b', \"c\"]", list[str], ["a, b", "c"]),
        ("[한국어, x=1]", list[str], ["한국어", "x=1"]),
        ("[[1], [2, 3]]", list[list[int]], [[1], [2, 3]]),
        ("[null, 1]", list[int | None], [None, 1]),
        ("{}", dict[str, int], {}),
        ("{a: 1, 'b c': 2}", dict[str, int], {"a": 1, "b c": 2}),
        ("{dev: nemo:/x/y.json}", Mapping[str, str], {"dev": "nemo:/x/y.json"}),
        ("{a: [1, 2]}", dict[str, list[int]], {"a": [1, 2]}),
        ("/data/한글", Path, Path("/data/한글")),
        ("LAYER", Norm, Norm.LAYER),
        ("bfloat16", torch.dtype, torch.bfloat16),
        ("torch.float16", torch.dtype, torch.float16),
        ("[1, 'a']", Any, [1, "a"]),
        ("true", Any, True),
        ("plain text", Any, "plain text"),
        (3, float, 3.0),
        ((1, 2), tuple[int, int], (1, 2)),
    ],
)
def test_text_is_read_as_its_annotation_says(text: object, annotation: Any, value: object) -> None:
    found = coerce(text, annotation, "a.b")

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("abc", int, "a.b: expected int, got 'abc'"),
        ("3.5", int, "a.b: expected int, got '3.5'"),
        ("3.0", int, "a.b: expected int, got '3.0'; did you mean 3?"),
        ("1e6", int, "a.b: expected int, got '1e6'; did you mean 1000000?"),
        ("３", int, "a.b: expected int, got '３'"),
        ("abc", float, "a.b: expected float, got 'abc'"),
        ("nan", float, "a.b: expected float, got 'nan'"),
        (
            "1",
            bool,
            "a.b: expected bool (true, false, yes, no, on, off), got '1'; did you mean true?",
        ),
        ("none", int | None, "a.b: expected int or null, got 'none'; did you mean null?"),
        (
            "bf61",
            Literal["fp32", "bf16"],
            "a.b: expected one of 'fp32', 'bf16', got 'bf61'; did you mean 'bf16'?",
        ),
        ("xyz", Literal["fp32", 4], "a.b: expected one of 'fp32', 4, got 'xyz'"),
        (
            "auot",
            int | Literal["auto"],
            "a.b: expected int or one of 'auto', got 'auot'; did you mean 'auto'?",
        ),
        ("1, 2", list[int], "a.b: expected list of int, got '1, 2'; did you mean [1, 2]?"),
        ("[1, x]", list[int], "a.b[1]: expected int, got 'x'"),
        ("[1, 'x']", list[int], "a.b[1]: expected int, got the string 'x'"),
        ("[1, 2", list[int], "a.b: expected list of int, got '[1, 2'"),
        ("[[1, 2]", list[int], "a.b: expected list of int, got '[[1, 2]': missing ]"),
        ("[1,,2]", list[int], "a.b: expected list of int, got '[1,,2]': an item is empty"),
        ("[1]", tuple[int, int], "a.b: expected [int, int], got 1 of 2 items in '[1]'"),
        ("{a: x}", dict[str, int], "a.b.a: expected int, got 'x'"),
        (
            "{a}",
            dict[str, int],
            "a.b: expected mapping of str to int, got 'a' in '{a}'; did you mean {key: value}?",
        ),
        ("{a: 1, a: 2}", dict[str, int], "a.b: key 'a' is given twice in '{a: 1, a: 2}'"),
        ("LAYR", Norm, "a.b: expected one of 'BATCH', 'LAYER', got 'LAYR'; did you mean 'LAYER'?"),
        ("", Path, "a.b: expected a path, got ''"),
        (
            "bfloat61",
            torch.dtype,
            "a.b: expected a torch dtype such as 'float32', got 'bfloat61'; "
            "did you mean 'bfloat16'?",
        ),
        (
            "abs",
            Callable[[int], int],
            "a.b: takes a function, which cannot be written as text; got 'abs'",
        ),
        (
            "conformer",
            Encoder,
            "a.b: expected a component (@kind/name) that makes Encoder, got 'conformer'",
        ),
        ("x", set[int], "a.b: a value of type set cannot be written as text; got 'x'"),
        (3.5, int, "a.b: expected int, got 3.5"),
        (True, int, "a.b: expected int, got True"),
    ],
)
def test_a_refusal_names_path_expectation_and_what_was_found(
    text: object, annotation: Any, message: str
) -> None:
    with pytest.raises(CoerceError) as caught:
        coerce(text, annotation, "a.b")

    assert str(caught.value) == message


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_every_int_is_read_back(number: int) -> None:
    assert coerce(str(number), int, "x") == number
    assert coerce(str(number), int | str | None, "x") == number


@given(st.floats(allow_nan=False))
def test_every_float_is_read_back(number: float) -> None:
    assert coerce(repr(number), float, "x") == number


@given(st.text())
def test_text_for_a_string_is_never_changed(text: str) -> None:
    assert coerce(text, str, "x") == text


@given(st.lists(st.text()))
def test_quoted_strings_in_a_list_are_read_back(items: list[str]) -> None:
    text = "[" + ", ".join(map(repr, items)) + "]"

    assert coerce(text, list[str], "x") == items


@given(st.text(), st.sampled_from([int, float, bool, list[int], dict[str, int], Literal["a", 1]]))
def test_any_text_gives_a_value_of_the_type_or_a_refusal(text: str, annotation: Any) -> None:
    try:
        value = coerce(text, annotation, "x")
    except CoerceError:
        return
    assert coerce(value, annotation, "x") == value
