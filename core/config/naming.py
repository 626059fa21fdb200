"""How a configuration is named to a person: components, locations, places."""

from __future__ import annotations

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
from core.config.values import format_value

COMMAND_LINE = "command line"


def component_of(value: Any) -> tuple[str, str] | None:  # noqa: ANN401
    """Return (kind, name) of the registered component that a Buildable configures, or None."""
    if not isinstance(value, fdl.Buildable):
        return None
    return registry.identify(fdl.get_callable(value))


def label(value: Any) -> str:  # noqa: ANN401
    """Return ``@kind/name`` of a component, the class of another Buildable, or the value."""
    if not isinstance(value, fdl.Buildable):
        return format_value(value)
    component = component_of(value)
    name = f"@{component[0]}/{component[1]}" if component else ""
    name = name or qualified_name(fdl.get_callable(value))
    if isinstance(value, fdl.Partial):
        return f"partial {name}"
    return f"factory {name}" if isinstance(value, fdl.ArgFactory) else name


def entries(slot: Slot) -> list[history.HistoryEntry]:
    """Return the history of the parameter that holds a slot, oldest first; values only."""
    found = slot.owner.__argument_history__.get(slot.parameter, ())
    return [entry for entry in found if entry.kind is history.ChangeKind.NEW_VALUE]


def location(slot: Slot) -> str:
    """Say where the value of a slot comes from: ``set at file:line`` or ``the default``."""
    if slot.default:
        return f"default of {fdl.get_callable(slot.owner).__name__}"
    found = entries(slot)
    return f"set at {format_location(found[-1].location)}" if found else "set in code"


def place(slot: Slot) -> str:
    """Return what a slot holds and where that was set."""
    return f"{label(slot.value)}, {location(slot)}"


def format_location(where: history.Location) -> str:
    """Return ``file:line``, relative to the working directory; without a line where there is none."""
    name = where.filename
    if os.path.isabs(name):
        relative = os.path.relpath(name)
        name = name if relative.startswith("..") else relative
    return f"{name}:{where.line_number}" if where.line_number else name


@contextmanager
def attributed(source: str | Path) -> Iterator[None]:
    """Record edits in this context as made by ``source`` instead of by a line of code."""
    origin = history.Location(filename=str(source), line_number=0, function_name=None)
    with history.custom_location(lambda: origin):
        yield
