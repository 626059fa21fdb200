from __future__ import annotations

import ast
from pathlib import Path

import pytest

from core.catalog.source import Library, SourceError
from tests.core.catalog.packs import only, scan


def test_constructor_inherited_through_a_re_export(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            __init__="from pack.parent import Parent as Renamed\n",
            parent='''
            class Parent:
                """A parent.

                Args:
                    width: from the parent.
                """
                def __init__(self, *, width: int = 3) -> None: ...
            ''',
            child="""
            import pack
            @register("head", "child")
            class Child(pack.Renamed): ...
            """,
        )
    )
    assert entry.signature == "(*, width: int = 3)"
    assert entry.parameters[0].doc == "from the parent."


def test_bases_that_go_round_in_a_circle_do_not_hang(tmp_path: Path) -> None:
    catalog = scan(
        tmp_path,
        left="""
        from pack.right import Right
        class Left(Right): ...
        """,
        right="""
        from pack.left import Left
        @register("head", "round")
        class Right(Left): ...
        """,
    )
    assert only(catalog).parameters == ()


def test_relative_imports_are_resolved_from_package_and_module(tmp_path: Path) -> None:
    folder = tmp_path / "pack" / "inner"
    folder.mkdir(parents=True)
    text = (
        "from . import a\nfrom .b import c as d\nfrom ..e import f\nimport g.h\nimport i.j as k\n"
    )
    for name in ("__init__", "module"):
        (folder / f"{name}.py").write_text(text)
    library = Library([("pack", [tmp_path])])
    expected = {
        "a": "pack.inner.a",
        "d": "pack.inner.b.c",
        "f": "pack.e.f",
        "g": "g",
        "k": "i.j",
    }
    for module in ("pack.inner", "pack.inner.module"):
        source = library.module(module)
        assert source is not None
        assert source.imports == expected


def test_dotted_names_follow_imports_and_definitions(tmp_path: Path) -> None:
    (tmp_path / "pack.py").write_text("from torch import nn\nimport a.b\nclass Own: ...\n")
    source = Library([("pack", [tmp_path])]).module("pack")
    assert source is not None

    def dotted(text: str) -> str | None:
        return source.dotted(ast.parse(text, mode="eval").body)

    assert dotted("nn.Module") == "torch.nn.Module"
    assert dotted("a.b.c") == "a.b.c"
    assert dotted("Own") == "pack.Own"
    assert dotted("print") == "print"
    assert dotted("f().x") is None


def test_file_that_does_not_parse_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pack.py"
    path.write_text("x = 1\nclass (:\n")
    library = Library([("pack", [tmp_path])])
    with pytest.raises(SourceError, match="SyntaxError") as caught:
        library.parse(path, "pack")
    assert caught.value.line == 2
    assert library.module("pack") is None
