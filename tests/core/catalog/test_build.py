from __future__ import annotations

import importlib
import inspect
import warnings
from pathlib import Path

import pytest

from core.catalog import FIRST_PARTY, Entry, build_catalog, index
from core.catalog.packages import Package, first_party
from core.errors import RegistryError
from core.registry import identify
from tests.core.catalog.packs import scan

OPTIONAL = {"aim", "bitsandbytes", "datasets", "matplotlib", "peft", "transformers"}


def first_party_entries() -> list[Entry]:
    return [entry for entry in index().entries if entry.package == FIRST_PARTY]


def test_static_index_equals_what_importing_everything_registers() -> None:
    registered = set()
    missing: dict[str, str] = {}
    for package in first_party():
        for _, name in package.files():
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                missing[name] = (error.name or str(error)).partition(".")[0]
                continue
            for value in vars(module).values():
                label = identify(value) if getattr(value, "__module__", "") == name else None
                if label:
                    registered.add((*label, name, value.__qualname__))
    assert set(missing.values()) <= OPTIONAL, missing
    if missing:
        warnings.warn(f"not compared, for want of a package: {missing}", stacklevel=1)
    indexed = {(e.kind, e.name, e.module, e.qualname) for e in first_party_entries()}
    assert {label for label in indexed if label[2] not in missing} == registered
    assert registered


def test_nothing_of_ours_is_broken() -> None:
    assert [str(item) for item in index().broken if item.package == FIRST_PARTY] == []


@pytest.mark.parametrize("entry", first_party_entries(), ids=lambda entry: entry.path)
def test_parameters_equal_the_signature_at_run_time(entry: Entry) -> None:
    component = getattr(importlib.import_module(entry.module), entry.qualname)
    actual = inspect.signature(component).parameters.values()
    if not entry.parameters and any(p.kind is p.VAR_KEYWORD for p in actual):
        assert component.__init__.__module__.partition(".")[0] not in ("components", "core")
        return
    styles = {
        inspect.Parameter.KEYWORD_ONLY: "keyword",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.VAR_POSITIONAL: "var-positional",
        inspect.Parameter.VAR_KEYWORD: "var-keyword",
    }
    expected = [(p.name, styles[p.kind], p.default is not p.empty) for p in actual]
    assert [(p.name, p.style, p.default is not None) for p in entry.parameters] == expected


@pytest.mark.parametrize("entry", first_party_entries(), ids=lambda entry: entry.path)
def test_every_component_says_what_it_and_its_parameters_are(entry: Entry) -> None:
    assert entry.summary
    assert [p.name for p in entry.parameters if not p.doc] == []
    assert [p.name for p in entry.parameters if not p.annotation] == []
    assert [p.name for p in entry.parameters if p.style != "keyword"] == []


def test_entry_gives_the_line_of_the_class() -> None:
    for entry in first_party_entries():
        line = entry.file.read_text().splitlines()[entry.line - 1]
        assert line.startswith((f"class {entry.qualname}", f"def {entry.qualname}"))


def test_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    catalog = scan(tmp_path, fine="@register('head', 'fine')\nclass Fine: ...\n")
    (tmp_path / "pack" / "noise.py").write_bytes(b"registry\xff\xfe\x00")
    package = Package(module="pack", folders=(tmp_path,), label="pack", where="here")
    again = build_catalog([package])
    assert again.entries == catalog.entries
    assert [broken.where for broken in again.broken] == [str(tmp_path / "pack" / "noise.py")]


def test_duplicate_is_listed_and_fatal_only_when_used(tmp_path: Path) -> None:
    catalog = scan(
        tmp_path,
        one="@register('head', 'same')\nclass One: ...\n",
        two="@register('head', 'same')\nclass Two: ...\n",
        fine="@register('head', 'fine')\nclass Fine: ...\n",
    )
    places = [f"{tmp_path / 'pack' / name}.py:3" for name in ("one", "two")]
    (broken,) = catalog.broken
    assert broken.where == places[1]
    assert places[0] in broken.reason
    assert catalog.names("head") == ("fine", "same")
    assert catalog.counts() == {"head": 2}
    assert catalog.find("head", "fine").qualname == "Fine"
    with pytest.raises(RegistryError) as caught:
        catalog.find("head", "same")
    assert all(place in str(caught.value) for place in places)
