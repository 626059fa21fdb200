"""Which experiments use a component, read from their source."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from core.catalog.packages import ROOT, Package, first_party
from core.catalog.records import FIRST_PARTY, Broken, Entry
from core.catalog.source import Library, Source, SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A place where an experiment names a component.

    Args:
        file: of the experiment.
        line: of the first use after its import.
    """

    file: Path
    line: int


def usages(entry: Entry, *, root: Path = ROOT) -> tuple[list[Usage], list[Broken]]:
    """Return where files of ``experiments/`` use a component, and which of them cannot be read.

    A use is a name or attribute that resolves to the component through the file's imports; an
    import that nothing refers to is none.
    """
    experiments = Package(
        module="experiments", folders=(root,), label=FIRST_PARTY, where=str(root / "experiments")
    )
    library = Library([(p.module, p.folders) for p in (*first_party(), experiments)])
    found: list[Usage] = []
    broken: list[Broken] = []
    for path, module in experiments.files():
        try:
            line = _first_use(library, library.parse(path, module), entry)
        except SourceError as error:
            where = f"{path}:{error.line}" if error.line else str(path)
            broken.append(Broken(package=FIRST_PARTY, where=where, reason=str(error)))
            continue
        if line:
            found.append(Usage(file=path, line=line))
    return found, broken


def _first_use(library: Library, source: Source, entry: Entry) -> int | None:
    target = f"{entry.module}.{entry.qualname}"
    lines: dict[str, int] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            dotted = source.dotted(node)
            if dotted and "." in dotted:
                lines[dotted] = min(node.lineno, lines.get(dotted, node.lineno))
    uses = [line for dotted, line in lines.items() if _reaches(library, dotted, target)]
    return min(uses, default=None)


def _reaches(library: Library, dotted: str, target: str) -> bool:
    if dotted == target:
        return True
    found = library.definition(dotted)
    return found is not None and f"{found[0].module}.{found[1].name}" == target
