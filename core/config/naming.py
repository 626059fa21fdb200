"""How a configuration is named to a person: components, locations, places."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fiddle as fdl
from fiddle import history

from core import registry
from core.config.hints import qualified_name
from core.config.tree import Slot
from core.config.values import format_value, holds_buildable

COMMAND_LINE = "command line"


def callable_label(function: Any) -> str:  # noqa: ANN401
    """Return ``@kind/name`` of a registered class or function, else its qualified name."""
    component = registry.identify(function)
    return f"@{component[0]}/{component[1]}" if component else qualified_name(function)


def label(value: Any) -> str:  # noqa: ANN401
    """Return ``@kind/name`` of a component, the class of a Buildable, else the value as text."""
    if isinstance(value, list | tuple) and holds_buildable(value):
        return "[" + ", ".join(map(label, value)) + "]"
    if not isinstance(value, fdl.Buildable):
        return format_value(value)
    name = callable_label(fdl.get_callable(value))
    if isinstance(value, fdl.Partial):
        return f"partial {name}"
    return f"factory {name}" if isinstance(value, fdl.ArgFactory) else name


def entries(slot: Slot) -> list[history.HistoryEntry]:
    """Return the history of the parameter that holds a slot, oldest first; values only."""
    found = slot.owner.__argument_history__.get(slot.parameter, ())
    return [entry for entry in found if entry.kind is history.ChangeKind.NEW_VALUE]


def components_over_time(node: fdl.Buildable[Any]) -> list[history.HistoryEntry]:
    """Return the callables that a Buildable was given, oldest first: one, and one more a swap."""
    return list(node.__argument_history__.get("__fn_or_cls__", ()))


def location(slot: Slot) -> str:
    """Say where the value of a slot comes from: ``set at file:line`` or ``default of Class``."""
    if slot.default:
        return f"default of {fdl.get_callable(slot.owner).__name__}"
    found = entries(slot)
    if isinstance(slot.value, fdl.Buildable):
        found += components_over_time(slot.value)[1:]
    return f"set at {format_location(found[-1].location)}" if found else "set in code"


def place(slot: Slot) -> str:
    """Return what a slot holds and where that was set."""
    return f"{label(slot.value)}, {location(slot)}"


def format_location(where: history.Location) -> str:
    """Return ``file:line``, or the name alone of what is not a line of code."""
    name = short_path(where.filename)
    return f"{name}:{where.line_number}" if where.line_number else name


def defined_at(function: Any) -> str:  # noqa: ANN401
    """Return ``file:line`` of a function."""
    code = inspect.unwrap(function).__code__
    return f"{short_path(code.co_filename)}:{code.co_firstlineno}"


def short_path(name: str) -> str:
    """Return a file name relative to the working directory if it is inside."""
    if not os.path.isabs(name):
        return name
    relative = os.path.relpath(name)
    return name if relative.startswith("..") else relative


@contextmanager
def attributed(source: str | Path) -> Iterator[None]:
    """Record edits in this context as made by ``source`` instead of by a line of code."""
    origin = history.Location(filename=str(source), line_number=0, function_name=None)
    with history.custom_location(lambda: origin):
        yield
