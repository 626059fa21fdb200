from __future__ import annotations

from pathlib import Path

import pytest

from core.catalog import Catalog, build_catalog
from core.catalog.packages import Package
from tests.core.catalog.packs import only, scan


@pytest.mark.parametrize(
    ("imported", "decorator"),
    [
        ("from core.registry import register as add", "add"),
        ("from core import registry", "registry.register"),
        ("import core.registry", "core.registry.register"),
        ("import core.registry as r", "r.register"),
    ],
)
def test_register_is_known_under_every_import(
    tmp_path: Path, imported: str, decorator: str
) -> None:
    text = f"{imported}\n@{decorator}(kind='head', name='x')\nclass X: ...\n"
    assert only(scan(tmp_path, thing=text)).path == "head/x"


def test_other_functions_named_register_are_none_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "a.py").write_text("import atexit  # registry\n@atexit.register\ndef f(): ...\n")
    (folder / "b.py").write_text("from lib.registry import register\n@register(1)\nclass C: ...\n")
    package = Package(module="pack", folders=(tmp_path,), label="pack", where="here")
    assert build_catalog([package]) == Catalog(())


def test_registration_in_a_branch_and_inside_a_class_is_found(tmp_path: Path) -> None:
    catalog = scan(
        tmp_path,
        thing="""
        try:
            @register("head", "tried")
            class Tried: ...
        except ImportError:
            pass
        class Outer:
            @register("head", "nested")
            class Inner: ...
        """,
    )
    assert [(e.name, e.qualname) for e in catalog.entries] == [
        ("nested", "Outer.Inner"),
        ("tried", "Tried"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("NAME = 'x'\n@register('head', NAME)\nclass X: ...", 3, "must be string literals"),
        ("@register('head', 3)\nclass X: ...", 2, "name must be a string"),
        ("@register('Head', 'x')\nclass X: ...", 2, "kind must be a string of a-z"),
        ("@register('head')\nclass X: ...", 2, "expected register(kind, name)"),
        ("@register(*LABEL)\nclass X: ...", 2, "expected register(kind, name)"),
        ("register('head', 'x')(object)", 2, "must decorate a class or function"),
        ("def f():\n    @register('head', 'x')\n    class X: ...", 3, "at module level"),
        ("@register('a', 'x')\n@register('b', 'x')\nclass X: ...", 2, "more than once"),
        ("class X(:", 2, "SyntaxError"),
    ],
)
def test_what_cannot_be_indexed_is_reported_with_its_line(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    catalog = scan(tmp_path, thing=text, fine="@register('head', 'fine')\nclass Fine: ...\n")
    assert catalog.names("head") == ("fine",)
    (broken,) = catalog.broken
    assert broken.where == f"{tmp_path / 'pack' / 'thing.py'}:{line}"
    assert reason in broken.reason
