from __future__ import annotations

import textwrap
from pathlib import Path

from core.catalog import Catalog, Entry, build_catalog
from core.catalog.packages import Package


def scan(tmp_path: Path, **files: str) -> Catalog:
    """Write a package ``pack`` with one file for each keyword and read it."""
    folder = tmp_path / "pack"
    folder.mkdir()
    for name, text in files.items():
        header = "" if name == "__init__" else "from core.registry import register\n"
        (folder / f"{name}.py").write_text(header + textwrap.dedent(text))
    return build_catalog([Package(module="pack", folders=(tmp_path,), label="pack", where="here")])


def only(catalog: Catalog) -> Entry:
    assert not catalog.broken
    (entry,) = catalog.entries
    return entry
