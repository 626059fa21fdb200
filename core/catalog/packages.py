"""Where components can live: the folders beside ``core``, and plugins by entry point."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from core.catalog.records import FIRST_PARTY, Broken

ENTRY_POINT_GROUP = "sori.components"
"""Entry points of this group name a package or module with components."""

ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds ``core`` and its siblings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package or module whose files are read.

    Args:
        module: dotted name.
        folders: what may hold the top-level part of ``module``; ``sys.path`` entries, usually.
        label: ``sori`` or the distribution's name.
        where: for messages, how it was found.
    """

    module: str
    folders: tuple[Path, ...]
    label: str
    where: str

    def files(self) -> Iterator[tuple[Path, str]]:
        """Yield each Python file with its module name, sorted; none if nothing is there."""
        for folder in self.folders:
            base = folder.joinpath(*self.module.split("."))
            if base.is_dir():
                yield from _walk(base, self.module)
            elif (single := base.with_suffix(".py")).is_file():
                yield single, self.module


def first_party() -> list[Package]:
    """Return the packages of this framework that hold components."""
    return [
        Package(module=name, folders=(ROOT,), label=FIRST_PARTY, where=f"{ROOT / name}")
        for name in ("components", "core")
    ]


def plugins() -> Iterator[Package | Broken]:
    """Yield what installed distributions declare, without importing any of it."""
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: (p.module, p.name)):
        label = point.dist.name if point.dist else point.name
        where = f"entry point {point.name} = {point.value}"
        try:
            folders = _source_folders(point)
        except (ImportError, ValueError, AttributeError) as error:
            yield Broken(package=label, where=where, reason=str(error))
            continue
        package = Package(module=point.module, folders=folders, label=label, where=where)
        if next(package.files(), None) is None:
            reason = f"no source of '{point.module}' in {', '.join(map(str, folders))}"
            yield Broken(package=label, where=where, reason=reason)
        else:
            yield package


def _source_folders(point: EntryPoint) -> tuple[Path, ...]:
    top = point.module.partition(".")[0]
    spec = find_spec(top)
    if spec is None:
        raise ImportError(f"no module named '{top}' is installed")
    folders = _parents(spec)
    if not folders:
        raise ImportError(f"'{top}' has no Python source (found {spec.origin})")
    return folders


def _parents(spec: ModuleSpec) -> tuple[Path, ...]:
    if spec.submodule_search_locations is not None:
        return tuple(Path(location).parent for location in spec.submodule_search_locations)
    if spec.origin and spec.origin.endswith(".py"):
        return (Path(spec.origin).parent,)
    return ()


def _walk(folder: Path, module: str) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as found:
        items = sorted(found, key=lambda item: item.name)
    for item in items:
        stem, suffix = os.path.splitext(item.name)
        if item.is_dir(follow_symlinks=False):
            if item.name.isidentifier() and item.name != "__pycache__":
                yield from _walk(Path(item.path), f"{module}.{item.name}")
        elif suffix == ".py" and stem.isidentifier():
            yield Path(item.path), module if stem == "__init__" else f"{module}.{stem}"
