from __future__ import annotations

from pathlib import Path

from tests.core.catalog.packs import only, scan


def test_constructor_with_docs(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            thing='''
            @register("encoder", "thing")
            class Thing:
                """Do a thing.

                In two
                paragraphs.

                Args:
                    dim: width, which
                        goes on here.
                    names (list): of things: several.
                    low, high: bounds.

                Raises:
                    ValueError: never.
                """

                def __init__(self, dim: int, *, names: "list[str] | None" = None,
                             low: float = -1.5, high=3) -> None: ...
            ''',
        )
    )
    assert entry.path == "encoder/thing"
    assert (entry.module, entry.qualname, entry.line) == ("pack.thing", "Thing", 4)
    assert entry.summary == "Do a thing."
    assert "paragraphs." in entry.doc
    assert entry.signature == (
        "(dim: int, *, names: 'list[str] | None' = None, low: float = -1.5, high=3)"
    )
    assert [p.doc for p in entry.parameters] == [
        "width, which goes on here.",
        "of things: several.",
        "bounds.",
        "bounds.",
    ]
    assert [p.required for p in entry.parameters] == [True, False, False, False]


def test_function_with_every_style_of_parameter(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            made="""
            @register("loss", "made")
            def made(a, /, b=1, *rest, c: int, **more): ...
            """,
        )
    )
    assert entry.signature == "(a, b=1, *rest, c: int, **more)"
    assert [p.style for p in entry.parameters] == [
        "positional",
        "positional",
        "var-positional",
        "keyword",
        "var-keyword",
    ]
