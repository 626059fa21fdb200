"""Everything that is known about one path of a configuration."""

from __future__ import annotations

import inspect
from typing import Any

import fiddle as fdl
from fiddle import history

from core.catalog.docstring import argument_docs, summary
from core.config.components import kinds_for, with_article
from core.config.hints import describe, qualified_name
from core.config.naming import (
    callable_label,
    components_over_time,
    entries,
    format_location,
    label,
    location,
)
from core.config.paths import parse_path, resolve
from core.config.tree import UNSET, Slot, default_of, format_path, paths_to
from core.config.values import format_value


def explain(config: fdl.Buildable[Any], path: str) -> str:
    """Return the value, type, default and documentation of a path, and who set it.

    The history names the file and line of every assignment, oldest first; values from the command
    line and from a saved configuration say so.

    Args:
        config: the configuration.
        path: as in an override, such as ``task.encoder.dim``.

    Raises:
        ConfigError: the path does not exist; the message gives the nearest ones.
    """
    slot = resolve(config, parse_path(path))
    rows = [("value", label(slot.value)), ("type", _type(slot))]
    if not slot.inner:
        default = default_of(slot.owner, slot.parameter)
        rows.append(("default", "(none: required)" if default is UNSET else format_value(default)))
    rows.append(("of", f"{_owner(slot)}.{slot.parameter}"))
    doc = _argument_doc(slot)
    rows += [("about", doc)] if doc else []
    if isinstance(slot.value, fdl.Buildable):
        function = fdl.get_callable(slot.value)
        rows += [
            ("class", qualified_name(function)),
            ("doc", summary(inspect.getdoc(function) or "")),
        ]
    rows += [("set", line) for line in _history(slot)]
    rows += [("also at", alias) for alias in _aliases(config, slot)]
    return "\n".join([format_path(slot.path), *(f"  {name:<8} {text}" for name, text in rows)])


def _type(slot: Slot) -> str:
    kinds = [with_article(kind) for kind in kinds_for(slot.annotation)]
    text = describe(slot.annotation)
    return f"{text}: {' or '.join(kinds)}" if kinds else text


def _owner(slot: Slot) -> str:
    return qualified_name(fdl.get_callable(slot.owner))


def _argument_doc(slot: Slot) -> str:
    """Return the description of a parameter, from the class that documents it."""
    function: Any = fdl.get_callable(slot.owner)
    for documented in getattr(function, "__mro__", (function,)):
        doc = argument_docs(inspect.cleandoc(documented.__doc__ or ""))
        if slot.parameter in doc:
            return doc[slot.parameter]
    return ""


def _history(slot: Slot) -> list[str]:
    """Return one line for each assignment of the parameter, oldest first, then for each swap."""
    if slot.default:
        return [location(slot)]
    states = [(_shown(_follow(e.new_value, slot)), e.location) for e in entries(slot)]
    if isinstance(slot.value, fdl.Buildable):
        swaps = components_over_time(slot.value)[1:]
        states += [(callable_label(swap.new_value), swap.location) for swap in swaps]
    lines: list[str] = []
    previous = ""
    for value, where in states:
        if value != previous:
            change = f"{previous} -> {value}" if previous else value
            lines.append(f"{change}   {format_location(where)}")
        previous = value
    return lines


def _shown(value: Any) -> str:  # noqa: ANN401
    """Return a value as it was when it was set: a Buildable by its first component."""
    if value is history.DELETED:
        return "(removed)"
    if isinstance(value, fdl.Buildable) and components_over_time(value):
        return callable_label(components_over_time(value)[0].new_value)
    return label(value)


def _follow(value: Any, slot: Slot) -> Any:  # noqa: ANN401
    """Return the element at a slot of a former value of its parameter."""
    for step in slot.inner:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return UNSET
    return value


def _aliases(config: fdl.Buildable[Any], slot: Slot) -> list[str]:
    """Return the other paths at which the same Buildable holds this value."""
    below = slot.path[len(slot.path) - len(slot.inner) - 1 :]
    shared = {(*path, *below) for path in paths_to(config, slot.owner)}
    if isinstance(slot.value, fdl.Buildable):
        shared |= set(paths_to(config, slot.value))
    return sorted(format_path(path) for path in shared - {slot.path})
