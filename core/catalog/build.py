"""Builds the index of components."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from core.catalog.packages import Package, first_party, plugins
from core.catalog.records import Broken, Catalog, Entry
from core.catalog.scan import registrations
from core.catalog.source import Library, SourceError

_MARK = b"registry"
"""A file that registers something imports ``core.registry``; others need no parsing."""


@cache
def index() -> Catalog:
    """Return the catalog of this process: first-party packages and installed plugins."""
    return build_catalog([*first_party(), *plugins()])


def build_catalog(packages: Iterable[Package | Broken]) -> Catalog:
    """Read all packages and return what they register."""
    entries: list[Entry] = []
    broken: list[Broken] = []
    readable: list[Package] = []
    for package in packages:
        if isinstance(package, Broken):
            broken.append(package)
        else:
            readable.append(package)
    library = Library([(package.module, package.folders) for package in readable])
    seen: set[Path] = set()
    for package in readable:
        for found in _scan_package(library, package, seen):
            if isinstance(found, Entry):
                entries.append(found)
            else:
                broken.append(found)
    entries.sort(key=lambda entry: (entry.kind, entry.name, entry.module))
    broken.extend(_duplicates(entries))
    return Catalog(tuple(entries), tuple(broken))


def _scan_package(library: Library, package: Package, seen: set[Path]) -> Iterator[Entry | Broken]:
    for path, module in package.files():
        if path in seen:
            continue
        seen.add(path)
        try:
            if _MARK in path.read_bytes():
                yield from registrations(library, library.parse(path, module), package.label)
        except (SourceError, OSError) as error:
            line = f":{error.line}" if isinstance(error, SourceError) and error.line else ""
            yield Broken(package=package.label, where=f"{path}{line}", reason=str(error))


def _duplicates(entries: list[Entry]) -> Iterator[Broken]:
    taken: dict[str, list[Entry]] = {}
    for entry in entries:
        taken.setdefault(entry.path, []).append(entry)
    for same in taken.values():
        if len(same) > 1:
            first, second = same[0], same[1]
            yield Broken(
                package=second.package,
                where=f"{second.file}:{second.line}",
                reason=f"{second.path} is also registered by {first.file}:{first.line}",
            )
