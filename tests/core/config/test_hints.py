from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import torch
from torch import nn

from core.config.hints import (
    HintError,
    describe,
    is_object_hint,
    item_annotation,
    parameter_hints,
    safe_hints,
)
from core.contracts import Encoder

if TYPE_CHECKING:
    from decimal import Decimal


class Hidden:
    def __init__(self, *, amount: Decimal) -> None:
        self.amount = amount


@dataclass
class Record:
    size: int
    name: str | None = None


class Plain(nn.Module):
    def __init__(self, *, dim: int) -> None:
        super().__init__()


def test_hints_of_classes_dataclasses_and_functions() -> None:
    assert parameter_hints(Plain) == {"dim": int}
    assert parameter_hints(Record) == {"size": int, "name": str | None}
    assert parameter_hints(describe) == {"annotation": Any}


def test_a_name_under_type_checking_only_is_refused() -> None:
    with pytest.raises(HintError, match=r"Hidden: type hints do not resolve: name 'Decimal'"):
        parameter_hints(Hidden)
    assert safe_hints(Hidden) == {}


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (None | int, "int or null"),
        (Annotated[int, "x"], "int"),
        (Literal["a", 2, None], "one of 'a', 2, null"),
        (list[int | None], "list of int or null"),
        (Sequence[str], "list of str"),
        (tuple[int, float], "[int, float]"),
        (Mapping[str, int], "mapping of str to int"),
        (dict, "mapping"),
        (Callable[[int], int], "a function"),
        (Path, "a path"),
        (Encoder | None, "Encoder or null"),
        (torch.dtype, "dtype"),
        (Any, "any value"),
    ],
)
def test_describe_speaks_of_types_as_a_user_would(annotation: Any, text: str) -> None:
    assert describe(annotation) == text


def test_item_annotation_looks_into_containers() -> None:
    assert item_annotation(list[int] | None, 3) is int
    assert item_annotation(tuple[int, str], 1) is str
    assert item_annotation(tuple[int, ...], 7) is int
    assert item_annotation(Mapping[str, float], "x") is float
    assert item_annotation(list, 0) is Any


def test_only_classes_of_built_objects_are_object_hints() -> None:
    assert is_object_hint(Encoder)
    assert is_object_hint(nn.Module)
    for annotation in (int, str, Path, torch.dtype, list, Mapping, Any, type(None)):
        assert not is_object_hint(annotation)
