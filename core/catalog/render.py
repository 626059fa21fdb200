"""The catalog as text for people and as JSON for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.catalog.docstring import without_arguments
from core.catalog.records import FIRST_PARTY, Broken, Catalog, Entry, Parameter
from core.catalog.usage import Usage


def overview(catalog: Catalog) -> str:
    """Return all kinds with counts and names, and what is broken."""
    counts = catalog.counts()
    width = max(map(len, counts), default=0)
    lines = [f"{sum(counts.values())} components of {len(counts)} kinds", ""]
    for kind, count in counts.items():
        head = f"  {kind:<{width}} {count:>3}  "
        lines += _wrap(", ".join(catalog.names(kind)), first=head, rest=" " * len(head))
    return "\n".join([*lines, *_broken_lines(catalog.broken)])


def table(catalog: Catalog, kind: str) -> str:
    """Return name, summary, place and signature of each component of a kind.

    Raises:
        RegistryError: no component has this kind.
    """
    entries = catalog.of_kind(kind)
    width = max(len(entry.name) for entry in entries)
    margin = " " * (width + 4)
    lines = [f"{kind}: {len(entries)} component{'s' if len(entries) > 1 else ''}"]
    for entry in entries:
        lines.append("")
        lines += _wrap(entry.summary or "(no docstring)", first=f"  {entry.name:<{width}}  ")
        lines += _wrap(entry.signature, first=margin, rest=margin + " ")
        lines.append(f"{margin}{_place(entry)}")
    return "\n".join([*lines, *_broken_lines(catalog.broken)])


def page(entry: Entry, uses: Sequence[Usage], unreadable: Sequence[Broken]) -> str:
    """Return everything that the source says of one component."""
    lines = [entry.path, f"{entry.module}.{entry.qualname}", _place(entry), ""]
    lines += [without_arguments(entry.doc) or "(no docstring)", "", "parameters:"]
    for parameter in entry.parameters:
        lines += _parameter_lines(parameter)
    if not entry.parameters:
        lines.append("  none")
    lines += ["", "used by:"]
    lines += [f"  {_short(use.file)}:{use.line}" for use in uses] or ["  no file of experiments/"]
    return "\n".join([*lines, *_broken_lines(unreadable)])


def overview_json(catalog: Catalog) -> dict[str, Any]:
    """Return what :func:`overview` shows, for ``json.dumps``."""
    kinds = {kind: list(catalog.names(kind)) for kind in catalog.kinds()}
    return {"kinds": kinds, "broken": [asdict(item) for item in catalog.broken]}


def table_json(catalog: Catalog, kind: str) -> dict[str, Any]:
    """Return what :func:`table` shows, for ``json.dumps``."""
    return {
        "kind": kind,
        "components": [_entry_json(entry) for entry in catalog.of_kind(kind)],
        "broken": [asdict(item) for item in catalog.broken],
    }


def page_json(entry: Entry, uses: Sequence[Usage], unreadable: Sequence[Broken]) -> dict[str, Any]:
    """Return what :func:`page` shows, for ``json.dumps``."""
    return {
        **_entry_json(entry),
        "used_by": [{"file": str(use.file), "line": use.line} for use in uses],
        "broken": [asdict(item) for item in unreadable],
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    parameters = [{**asdict(p), "required": p.required} for p in entry.parameters]
    return {
        **asdict(entry),
        "file": str(entry.file),
        "signature": entry.signature,
        "parameters": parameters,
    }


def _parameter_lines(parameter: Parameter) -> list[str]:
    text = str(parameter) if not parameter.required else f"{parameter}  (required)"
    lines = _wrap(text, first="  ", rest="      ")
    return lines + (_wrap(parameter.doc, first="      ") if parameter.doc else [])


def _broken_lines(broken: Iterable[Broken]) -> list[str]:
    lines = [f"  {_short(item.where)} [{item.package}]: {item.reason}" for item in broken]
    return ["", f"broken ({len(lines)}), fatal only when used:", *lines] if lines else []


def _place(entry: Entry) -> str:
    origin = "" if entry.package == FIRST_PARTY else f"  [{entry.package}]"
    return f"{_short(entry.file)}:{entry.line}{origin}"


def _short(path: Path | str) -> str:
    """Return a path as seen from the working directory, when it is below."""
    return str(path).removeprefix(f"{Path.cwd()}/")


def _wrap(text: str, *, first: str, rest: str | None = None) -> list[str]:
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    indent = " " * len(first) if rest is None else rest
    return textwrap.wrap(
        text,
        width=max(width, len(first) + 40),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
