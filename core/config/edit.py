"""Setting one slot of a configuration, and saying what that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiddle as fdl

from core.config.naming import COMMAND_LINE, attributed, label
from core.config.tree import KeyPath, Slot, format_path, paths_to


def assign(config: fdl.Config[Any], slot: Slot, value: Any) -> str:  # noqa: ANN401
    """Set a slot and return what changed; lists and mappings are replaced, not edited in place.

    The edit is attributed to the command line. Where the Buildable that owns the slot is shared,
    the line names the other paths that change with it.
    """
    whole = value
    if slot.inner:
        whole = _replaced(slot.whole, slot.inner, value)
    with attributed(COMMAND_LINE):
        setattr(slot.owner, slot.parameter, whole)
    depth = len(slot.path) - len(slot.inner) - 1
    others = [path for path in paths_to(config, slot.owner) if path != slot.path[:depth]]
    aliases = [(*path, *slot.path[depth:]) for path in others]
    old, new = label(slot.value), label(value)
    return change_line(slot.path, old, new, aliases, ["unchanged"] if old == new else [])


def _replaced(container: Any, inner: KeyPath, value: Any) -> Any:  # noqa: ANN401
    if not inner:
        return value
    key = inner[0]
    if isinstance(container, dict):
        return {k: _replaced(v, inner[1:], value) if k == key else v for k, v in container.items()}
    items = [_replaced(v, inner[1:], value) if i == key else v for i, v in enumerate(container)]
    return items if isinstance(container, list) else tuple(items)


def change_line(
    path: KeyPath, old: str, new: str, aliases: Sequence[KeyPath], notes: Sequence[str] = ()
) -> str:
    """Return ``path: old -> new``, with notes and the other paths that change in parentheses."""
    if aliases:
        notes = [*notes, "also changes " + ", ".join(format_path(alias) for alias in aliases)]
    return f"{format_path(path)}: {old} -> {new}" + (f" ({'; '.join(notes)})" if notes else "")
