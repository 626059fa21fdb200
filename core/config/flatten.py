"""A configuration as flat text: one line a leaf, sorted, the same in every process."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator
from typing import Any

import fiddle as fdl

from core.config.naming import label
from core.config.tree import UNSET, KeyPath, Slot, format_path, items_of, slots_of
from core.config.values import PRINTABLE, Symbol, format_value


def flatten(config: fdl.Buildable[Any]) -> dict[str, Any]:
    """Map every path to its value, sorted by path; what is not set shows its default.

    A component is a line of its own, ``@kind/name`` (the qualified class name if it is not
    registered); where it is shared, the later paths read ``&first.path`` and nothing is repeated
    below them. Values are numbers, strings, None and lists of these; anything else, such as a
    path or a dtype, is its text.
    """
    found = dict(_flatten(config))
    return {format_path(path): found[path] for path in sorted(found, key=sort_key)}


def flat_text(config: fdl.Buildable[Any]) -> str:
    """Return :func:`flatten` as lines ``path: value``."""
    return "".join(f"{path}: {format_value(v)}\n" for path, v in flatten(config).items())


def fingerprint(config: fdl.Buildable[Any]) -> str:
    """Return 8 hexadecimal digits that any change of a value changes."""
    return hashlib.sha256(flat_text(config).encode()).hexdigest()[:8]


def sort_key(path: KeyPath) -> tuple[tuple[bool, int, str], ...]:
    """Order paths step by step, indices as numbers."""
    return tuple(
        (isinstance(step, str), step if isinstance(step, int) else 0, str(step)) for step in path
    )


def _flatten(config: fdl.Buildable[Any]) -> Iterator[tuple[KeyPath, Any]]:
    first: dict[int, KeyPath] = {}
    pending: list[Slot] = list(slots_of(config))[::-1]
    while pending:
        slot = pending.pop()
        value = slot.value
        if value is UNSET and not isinstance(slot.owner, fdl.Config):
            continue  # the caller of a Partial gives it
        if isinstance(value, fdl.Buildable):
            known = first.setdefault(id(value), slot.path)
            if known != slot.path:
                yield slot.path, Symbol(f"&{format_path(known)}")
                continue
            yield slot.path, Symbol(label(value))
        elif slot.is_leaf:
            yield slot.path, _printable(value)
        pending.extend(list(items_of(slot))[::-1] if not slot.is_leaf else [])


def _printable(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return type(value)(_printable(item) for item in value)
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    plain = isinstance(value, PRINTABLE) and not isinstance(value, enum.Enum)
    return value if plain else Symbol(format_value(value))
