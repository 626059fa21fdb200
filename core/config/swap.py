"""Putting another component in a slot: ``task.encoder=@encoder/blstm``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_origin

import fiddle as fdl

from core.config.components import component_problem, find_component
from core.config.edit import assign, change_line
from core.config.hints import (
    SEQUENCES,
    is_callable_hint,
    item_annotation,
    members,
    safe_hints,
)
from core.config.literals import enclosed, split
from core.config.naming import COMMAND_LINE, attributed, label, place
from core.config.tree import Slot, format_path, parameters, paths_to, walk
from core.config.values import matches
from core.errors import ConfigError


def swap(config: fdl.Config[Any], slot: Slot, reference: str) -> str:
    """Put the component ``@kind/name`` in a slot and return what changed.

    Arguments that were set and that the new component takes too, with a fitting type, are kept. A
    component that is shared changes at every place that shares it.

    Raises:
        ConfigError: the component is unknown or does not fit; nothing has changed.
    """
    component = component_for(config, slot, reference)
    if not isinstance(slot.value, fdl.Buildable):
        with attributed(COMMAND_LINE):
            made = _buildable_type(slot)(component)
        return assign(config, slot, made)
    node, before = slot.value, label(slot.value)
    kept, dropped = _divide_arguments(node, component)
    with attributed(COMMAND_LINE):
        for name in dropped:
            delattr(node, name)
        fdl.update_callable(node, component)
    notes = [f"kept {', '.join(kept)}"] if kept else []
    notes += [f"dropped {', '.join(dropped)}"] if dropped else []
    aliases = [path for path in paths_to(config, node) if path != slot.path]
    return change_line(slot.path, before, label(node), aliases, notes)


def component_for(config: fdl.Config[Any], slot: Slot, reference: str) -> Callable[..., Any]:
    """Return the component for a swap, checked at every place that shares what the slot holds.

    Raises:
        ConfigError: naming the place, what it holds now and what it takes.
    """
    current = callable_at(slot)
    try:
        component = find_component(reference, format_path(slot.path), slot.annotation, current)
    except ConfigError as error:
        raise ConfigError(f"{error} (now {place(slot)})") from None
    shared = [slot] if current is None else [s for s in walk(config) if s.value is slot.value]
    for other in shared:
        problem = component_problem(_buildable_type(slot), component, other.annotation)
        if problem:
            raise ConfigError(f"{format_path(other.path)}{problem} (now {place(other)})")
    return component


def new_components(slot: Slot, text: str) -> Any | None:  # noqa: ANN401
    """Return the list or tuple that ``[@kind/name, ...]`` means at a slot; None for other text."""
    inner = enclosed(text, "[]")
    bases = [get_origin(member) or member for member in members(slot.annotation)]
    if not inner or not inner.strip().startswith("@") or not set(bases) & set(SEQUENCES):
        return None
    made = []
    for index, item in enumerate(split(inner)):
        path, hint = f"{format_path(slot.path)}[{index}]", item_annotation(slot.annotation, index)
        component = find_component(item, path, hint)
        made_by = fdl.Partial if _wants_partial(hint) else fdl.Config
        problem = component_problem(made_by, component, hint)
        if problem:
            raise ConfigError(f"{path}{problem}")
        with attributed(COMMAND_LINE):
            made.append(made_by(component))
    return made if list in bases else tuple(made)


def callable_at(slot: Slot) -> Callable[..., Any] | None:
    """Return the class or function that is configured in a slot, or None."""
    return fdl.get_callable(slot.value) if isinstance(slot.value, fdl.Buildable) else None


def _buildable_type(slot: Slot) -> type[fdl.Buildable[Any]]:
    """Return what to describe a component with: as the present one is, else as annotated."""
    wanted = fdl.Partial if _wants_partial(slot.annotation) else fdl.Config
    made_by: type[fdl.Buildable[Any]] = wanted
    if isinstance(slot.value, fdl.Buildable):
        made_by = type(slot.value)
    return made_by


def _wants_partial(annotation: Any) -> bool:  # noqa: ANN401
    alternatives = [member for member in members(annotation) if member is not type(None)]
    return bool(alternatives) and all(is_callable_hint(member) for member in alternatives)


def _divide_arguments(
    node: fdl.Buildable[Any], component: Callable[..., Any]
) -> tuple[list[str], list[str]]:
    """Return which arguments that are set the new component takes, and which it does not."""
    hints, known = safe_hints(component), parameters(fdl.Partial(component))
    kept: list[str] = []
    dropped: list[str] = []
    for name, value in node.__arguments__.items():
        hint = hints.get(name, Any)
        fits = name in known and matches(value, hint)
        if fits and isinstance(value, fdl.Buildable):
            fits = component_problem(type(value), fdl.get_callable(value), hint) is None
        (kept if fits else dropped).append(str(name))
    return kept, dropped
