"""How components are wired, in the dot language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiddle as fdl

from core.config.naming import label
from core.config.paths import format_path
from core.config.tree import Path, Slot, items_of, slots_of
from core.config.values import format_value

_LONGEST = 48
"""Characters of a value in a node; the rest is cut."""


def dot(config: fdl.Buildable[Any]) -> str:
    """Return a directed graph with one node a component and one edge a use.

    A node lists the values that were set; defaults are left out. A component that is used in
    several places is one node with several edges. ``dot -Tsvg`` draws it; nothing is needed to
    write it.
    """
    names: dict[int, str] = {}
    nodes: list[str] = []
    edges: list[str] = []
    pending: list[fdl.Buildable[Any]] = [config]
    names[id(config)] = "n0"
    while pending:
        node = pending.pop()
        nodes.append(f'  {names[id(node)]} [label="{_node_label(node)}"];')
        used = list(_used(node))
        for path, child in used:
            if id(child) not in names:
                names[id(child)] = f"n{len(names)}"
                pending.append(child)
            text = _escaped(format_path(path))
            edges.append(f'  {names[id(node)]} -> {names[id(child)]} [label="{text}"];')
    style = '  rankdir=LR;\n  node [shape=box, fontname="monospace"];'
    return "\n".join(["digraph experiment {", style, *nodes, *edges, "}", ""])


def _used(node: fdl.Buildable[Any]) -> Iterator[tuple[Path, fdl.Buildable[Any]]]:
    """Yield what a Buildable uses directly or in its lists and mappings."""
    pending = list(slots_of(node))[::-1]
    while pending:
        slot = pending.pop()
        if isinstance(slot.value, fdl.Buildable):
            yield slot.path, slot.value
        elif not slot.is_leaf:
            pending.extend(list(items_of(slot))[::-1])


def _node_label(node: fdl.Buildable[Any]) -> str:
    """Return the name of a component and the values set on it, a line each."""
    values = [_value_line(slot) for slot in slots_of(node) if slot.is_leaf and not slot.default]
    return "".join(f"{_escaped(line)}\\l" for line in [label(node), *values])


def _value_line(slot: Slot) -> str:
    text = format_value(slot.value)
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return f"{slot.parameter} = {cut}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
