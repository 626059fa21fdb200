"""A picture of a configuration as Graphviz text."""

from __future__ import annotations

from typing import Any

import fiddle as fdl

from core.config.naming import label
from core.config.tree import Slot, default_of, items_of, slots_of
from core.config.values import format_value

_LONGEST = 40


def to_dot(config: fdl.Buildable[Any]) -> str:
    """Return a directed graph in the DOT language; no Graphviz program is needed for that.

    Each Buildable is one box with its component and the values that differ from its defaults;
    each edge names the parameter that holds the next box. What is shared is one box with several
    edges into it. Render with ``dot -Tsvg``.
    """
    boxes: dict[int, str] = {}
    edges: list[str] = []
    lines: list[str] = []
    pending = [config]
    boxes[id(config)] = "n0"
    while pending:
        node = pending.pop(0)
        held, leaves = _contents(node)
        lines.append(f"  {boxes[id(node)]} [label={_quote(_box(node, leaves))}];")
        for name, child in held:
            if id(child) not in boxes:
                boxes[id(child)] = f"n{len(boxes)}"
                pending.append(child)
            edges.append(f"  {boxes[id(node)]} -> {boxes[id(child)]} [label={_quote(name)}];")
    head = ["digraph configuration {", "  rankdir=LR;", '  node [shape=box, fontname="monospace"];']
    return "\n".join([*head, *lines, *edges, "}"]) + "\n"


def _contents(node: fdl.Buildable[Any]) -> tuple[list[tuple[str, Any]], list[str]]:
    """Return the Buildables that a Buildable holds, by parameter, and its own changed values."""
    held: list[tuple[str, Any]] = []
    leaves: list[str] = []
    pending: list[Slot] = list(slots_of(node))[::-1]
    while pending:
        slot = pending.pop()
        name = "".join([slot.parameter, *(f"[{step}]" for step in slot.inner)])
        if isinstance(slot.value, fdl.Buildable):
            held.append((name, slot.value))
        elif not slot.is_leaf:
            pending.extend(list(items_of(slot))[::-1])
        elif not slot.default and (slot.inner or slot.value != default_of(node, slot.parameter)):
            leaves.append(f"{name} = {_short(format_value(slot.value))}")
    return held, leaves


def _box(node: fdl.Buildable[Any], leaves: list[str]) -> str:
    title = label(node)
    if "@" not in title:
        prefix, _, name = title.rpartition(" ")
        title = f"{prefix} {name.rpartition('.')[2]}".strip()
    return "\n".join([title, *leaves])


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\l")
    return f'"{escaped}\\l"' if "\\l" in escaped else f'"{escaped}"'
