"""Everything that is known of one place in a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import fiddle as fdl
from fiddle import history

from core import catalog, registry
from core.catalog.docstring import argument_docs
from core.config.components import kinds_for
from core.config.hints import describe, qualified_name
from core.config.naming import entries, format_location, label, location
from core.config.paths import parse_path, resolve
from core.config.tree import UNSET, KeyPath, Slot, default_of, format_path, items_of, paths_to


def explain(config: fdl.Buildable[Any], path: str) -> list[str]:
    """Return lines on the value at ``path``: where it was set, type, default, doc, aliases.

    Raises:
        PathError: the path leads nowhere; the message gives the nearest ones.
    """
    slot = resolve(config, parse_path(path))
    rows = [(name, text) for name, text in _rows(config, slot) if text]
    width = max(len(name) for name, _ in rows)
    return [
        f"{format_path(slot.path)} = {label(slot.value)}",
        *(f"  {name:<{width}}  {text}" for name, text in rows),
    ]


def _rows(config: fdl.Buildable[Any], slot: Slot) -> Iterator[tuple[str, str]]:
    function = fdl.get_callable(slot.owner)
    yield "value", location(slot)
    yield from (("before", text) for text in _former_values(slot))
    yield "type", describe(slot.annotation)
    if not slot.inner:
        default = default_of(slot.owner, slot.parameter)
        yield "default", "none: required" if default is UNSET else label(default)
    yield "doc", _documentation(function).get(slot.parameter, "")
    yield "parameter of", _defined(function)
    if isinstance(slot.value, fdl.Buildable):
        yield "component", _defined(fdl.get_callable(slot.value))
        others = [path for path in paths_to(config, slot.value) if path != slot.path]
        yield "also at", ", ".join(map(format_path, others))
    yield "below", ", ".join(str(item.path[-1]) for item in items_of(slot))
    yield "takes", ", ".join(_choices(slot))
    yield "shared with", ", ".join(map(format_path, _aliases(config, slot)))


def _aliases(config: fdl.Buildable[Any], slot: Slot) -> list[KeyPath]:
    """Return the other paths to the same place, which change with it."""
    depth = len(slot.path) - len(slot.inner) - 1
    owners = (path for path in paths_to(config, slot.owner) if path != slot.path[:depth])
    return [(*path, *slot.path[depth:]) for path in owners]


def _former_values(slot: Slot) -> Iterator[str]:
    """Yield what the parameter held before, newest first, with the place that set it."""
    for entry in reversed(entries(slot)[:-1]):
        yield f"{label(entry.new_value)}, set at {format_location(entry.location)}"


def _choices(slot: Slot) -> list[str]:
    """Return the components that may stand in a place."""
    function = fdl.get_callable(slot.value) if isinstance(slot.value, fdl.Buildable) else None
    kinds = kinds_for(slot.annotation, function)
    return [f"@{kind}/{name}" for kind in kinds for name in catalog.index().names(kind)]


def _documentation(function: Callable[..., Any]) -> dict[str, str]:
    entry = _entry(function)
    if entry is not None:
        return {parameter.name: parameter.doc for parameter in entry.parameters}
    return argument_docs(inspect.getdoc(function) or "")


def _defined(function: Callable[..., Any]) -> str:
    """Return the qualified name of a class or function and where it is defined."""
    name, entry = qualified_name(function), _entry(function)
    if entry is not None:
        return f"{name}, {_place(str(entry.file), entry.line)}"
    try:
        file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        return name
    return f"{name}, {_place(str(file), line)}"


def _entry(function: Callable[..., Any]) -> catalog.Entry | None:
    """Return what the catalog has on a component; None for one that it does not list."""
    component = registry.identify(function)
    if component is None or component[1] not in catalog.index().names(component[0]):
        return None
    return catalog.index().find(*component)


def _place(file: str, line: int) -> str:
    return format_location(history.Location(filename=file, line_number=line, function_name=None))
