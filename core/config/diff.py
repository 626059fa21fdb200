"""What differs between two configurations, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import fiddle as fdl

from core.config.flatten import flatten, sort_key
from core.config.paths import parse_path
from core.config.values import format_value

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A path whose value differs; values as text, ``(absent)`` where the path does not exist."""

    path: str
    old: str
    new: str


def differences(a: fdl.Buildable[Any], b: fdl.Buildable[Any]) -> list[Difference]:
    """Return what leads from ``a`` to ``b``, sorted by path."""
    old, new = flatten(a), flatten(b)
    found: list[Difference] = []
    for path in sorted(old.keys() | new.keys(), key=lambda text: sort_key(parse_path(text))):
        before = format_value(old[path]) if path in old else ABSENT
        after = format_value(new[path]) if path in new else ABSENT
        if before != after:
            found.append(Difference(path=path, old=before, new=after))
    return found


def topmost(found: Iterable[Difference]) -> list[Difference]:
    """Leave out what came or went because something above it was replaced."""
    kept: list[Difference] = []
    for change in found:
        above = any(change.path.startswith((f"{k.path}.", f"{k.path}[")) for k in kept)
        if not (above and ABSENT in (change.old, change.new)):
            kept.append(change)
    return kept


def diff_lines(a: fdl.Buildable[Any], b: fdl.Buildable[Any]) -> list[str]:
    """Return lines that lead from ``a`` to ``b``, sorted by path and aligned.

    ``~ path: old -> new`` for a value that differs, ``+ path: value`` for a path that only ``b``
    has, ``- path: value`` for one that only ``a`` has.
    """
    found = differences(a, b)
    width = max((len(change.path) for change in found), default=0) + 1
    return [_line(change, width) for change in found]


def _line(change: Difference, width: int) -> str:
    name = f"{change.path + ':':<{width}}"
    if change.old == ABSENT:
        return f"+ {name} {change.new}"
    if change.new == ABSENT:
        return f"- {name} {change.old}"
    return f"~ {name} {change.old} -> {change.new}"
