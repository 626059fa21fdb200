from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.catalog.records import Broken, Catalog
from core.catalog.render import overview, page, page_json, table, table_json
from core.catalog.usage import Usage
from tests.core.catalog.packs import only, scan

THING = '''
@register("encoder", "thing")
class Thing:
    """Do a thing.

    Args:
        dim: {doc}
    """

    def __init__(self, *, dim: int, names: tuple[str, ...] = ("a", "b")) -> None: ...
'''


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return scan(tmp_path, thing=THING.format(doc="width, " + "said at length, " * 12 + "so."))


def test_table_names_the_distribution_of_a_plugin(catalog: Catalog, tmp_path: Path) -> None:
    text = table(catalog, "encoder")
    assert "encoder: 1 component\n" in text
    assert "  thing  Do a thing.\n" in text
    assert "(*, dim: int, names: tuple[str, ...] = ('a', 'b'))" in text
    assert f"{tmp_path / 'pack' / 'thing.py'}:4  [pack]" in text


def test_page_wraps_and_marks_what_is_required(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = page(only(catalog), [], [])
    assert "  dim: int  (required)\n      width, said at length," in text
    assert "names: tuple[str, ...] = ('a', 'b')\n" in text
    assert max(map(len, text.splitlines()[3:])) <= 60
    assert text.endswith("used by:\n  no file of experiments/")


def test_page_lists_uses_and_what_could_not_be_read(catalog: Catalog) -> None:
    uses = [Usage(file=Path.cwd() / "experiments" / "a.py", line=3)]
    broken = [Broken(package="sori", where=f"{Path.cwd()}/experiments/b.py:2", reason="bad")]
    text = page(only(catalog), uses, broken)
    assert "used by:\n  experiments/a.py:3\n" in text
    assert text.endswith("fatal only when used:\n  experiments/b.py:2 [sori]: bad")


def test_empty_catalog_is_said_to_be_one() -> None:
    assert overview(Catalog(())).startswith("0 components of 0 kinds")


def test_json_holds_what_the_text_holds(catalog: Catalog) -> None:
    entry = only(catalog)
    full = json.loads(json.dumps(page_json(entry, [Usage(file=Path("a.py"), line=3)], [])))
    assert full["used_by"] == [{"file": "a.py", "line": 3}]
    assert [(p["name"], p["required"]) for p in full["parameters"]] == [
        ("dim", True),
        ("names", False),
    ]
    assert full["signature"] == entry.signature
    (listed,) = json.loads(json.dumps(table_json(catalog, "encoder")))["components"]
    assert {**full, "used_by": [], "broken": []} == {**listed, "used_by": [], "broken": []}
