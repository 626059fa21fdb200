"""How components are wired, in the dot language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiddle as fdl

from core.config.naming import label
from core.config.tree import Slot, format_path, items_of, slots_of
from core.config.values import format_value

_LONGEST = 48
"""Characters of a value in a node; the rest is cut."""


def dot(config: fdl.Buildable[Any]) -> str:
    """Return a directed graph with one node a component and one edge a use.

    A node lists the values that were set; defaults are left out. A component that is used in
    several places is one node with several edges. ``dot -Tsvg`` draws it; nothing is needed to
    write it.
    """
    names = {id(config): "n0"}
    found: list[fdl.Buildable[Any]] = [config]
    nodes: list[str] = []
    edges: list[str] = []
    for node in found:  # grows on the way
        own = list(_own_slots(node))
        lines = [label(node), *(_value_line(slot) for slot in own if _is_set_leaf(slot))]
        text = "".join(f"{_escaped(line)}\\l" for line in lines)
        nodes.append(f'  {names[id(node)]} [label="{text}"];')
        for slot in own:
            if not isinstance(slot.value, fdl.Buildable):
                continue
            if id(slot.value) not in names:
                names[id(slot.value)] = f"n{len(names)}"
                found.append(slot.value)
            path = _escaped(format_path(slot.path))
            edges.append(f'  {names[id(node)]} -> {names[id(slot.value)]} [label="{path}"];')
    style = '  rankdir=LR;\n  node [shape=box, fontname="monospace"];'
    return "\n".join(["digraph experiment {", style, *nodes, *edges, "}", ""])


def _own_slots(node: fdl.Buildable[Any]) -> Iterator[Slot]:
    """Yield the slots of a Buildable and those in its lists and mappings, in order."""
    pending = list(slots_of(node))[::-1]
    while pending:
        slot = pending.pop()
        yield slot
        if not slot.is_leaf and not isinstance(slot.value, fdl.Buildable):
            pending.extend(list(items_of(slot))[::-1])


def _is_set_leaf(slot: Slot) -> bool:
    return slot.is_leaf and not slot.default


def _value_line(slot: Slot) -> str:
    text = format_value(slot.value)
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return f"{format_path(slot.path)} = {cut}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
