from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.catalog import Broken, Catalog, Entry, Parameter
from core.catalog.records import label_problem
from core.errors import RegistryError


def test_unknown_kind_has_no_names_and_cannot_be_found() -> None:
    catalog = Catalog((), (Broken(package="p", where="w", reason="r"),))
    assert catalog.names("head") == ()
    with pytest.raises(RegistryError, match=r"(?s)unknown kind 'head'.*w \[p\]: r"):
        catalog.find("head", "x")


def entry(*parameters: Parameter) -> Entry:
    return Entry(
        kind="head",
        name="x",
        module="pack.x",
        qualname="X",
        file=Path("x.py"),
        line=1,
        parameters=parameters,
        summary="",
        doc="",
        package="pack",
    )


def test_signature_marks_where_keywords_begin() -> None:
    assert entry().signature == "()"
    plain, key = Parameter(name="a", style="positional"), Parameter(name="b", default="1")
    assert entry(plain).signature == "(a)"
    assert entry(plain, key).signature == "(a, *, b=1)"
    rest = Parameter(name="rest", style="var-positional", annotation="int")
    assert entry(rest, key).signature == "(*rest: int, b=1)"


def test_names_are_of_the_kind_asked_for() -> None:
    other = replace(entry(), kind="loss", name="y")
    catalog = Catalog((entry(), other))
    assert catalog.kinds() == ("head", "loss")
    assert catalog.names("loss") == ("y",)
    assert catalog.of_kind("head") == (entry(),)
    assert catalog.find("loss", "y") is other


@pytest.mark.parametrize("label", ["", "Upper", "a b", "a/b", "-a", None, 3])
def test_labels_must_fit_a_command_line(label: object) -> None:
    assert "kind must be" in str(label_problem(label, "fine"))
    assert "name must be" in str(label_problem("fine", label))
    assert label_problem("fine", "dw_striding-8.x") is None
