"""Edits of a configuration from the command line: leaves, component swaps and globs."""

from __future__ import annotations

from typing import Any

import fiddle as fdl

from core.config.edit import assign
from core.config.naming import place
from core.config.paths import glob_matches, is_glob, parse_path, resolve
from core.config.swap import callable_at, component_for, new_components, swap
from core.config.tree import KeyPath, Slot, format_path, parameters, walk
from core.config.types import CoerceError, coerce
from core.config.values import format_value
from core.errors import ConfigError, ConfigErrors, closest


def override(config: fdl.Config[Any], target: str, text: str) -> list[str]:
    """Apply ``target=text`` in place and return one line for each edit.

    Args:
        config: the configuration.
        target: a path or a glob.
        text: a value; ``@kind/name`` to put another component there; ``[@kind/name, ...]`` for a
            list of new components.

    Raises:
        ConfigError: the edit is not valid; the configuration is as it was.
    """
    if is_glob(target):
        return _override_all(config, target, text)
    slot = resolve(config, parse_path(target))
    if text.startswith("@"):
        return [swap(config, slot, text)]
    return [assign(config, slot, _value_for(slot, text))]


def _override_all(config: fdl.Config[Any], pattern: str, text: str) -> list[str]:
    slots = _matching(config, pattern, components=text.startswith("@"))
    if text.startswith("@"):
        parts = [(slot, component_for(config, slot, text)) for slot in slots]
        lines = [swap(config, slot, text) for slot, new in parts if callable_at(slot) is not new]
    else:
        pairs = zip(slots, _values_for(slots, text), strict=True)
        changing = [(s, v) for s, v in pairs if format_value(s.value) != format_value(v)]
        lines = [assign(config, slot, value) for slot, value in changing]
    if not lines:
        places = ", ".join(format_path(slot.path) for slot in slots)
        raise ConfigError(f"{pattern}={text}: changes nothing; so it is already at {places}")
    return lines


def _matching(config: fdl.Config[Any], pattern: str, *, components: bool) -> list[Slot]:
    """Return the components or the leaves that a pattern fits, each shared one once."""
    steps = tuple(pattern.replace("[", ".").replace("]", "").split("."))
    if "" in steps or steps[-1] == "**":
        raise ConfigError(f"{pattern}: not a pattern; write '**.dropout' or 'task.*.dim'")
    unique: dict[tuple[int, str, KeyPath], Slot] = {}
    for slot in walk(config):
        if glob_matches(steps, slot.path):
            unique.setdefault((id(slot.owner), slot.parameter, slot.inner), slot)
    found = [s for s in unique.values() if (callable_at(s) if components else s.is_leaf)]
    if found:
        return found
    if unique:
        first, wanted = next(iter(unique.values())), "component" if components else "leaf"
        raise ConfigError(
            f"{pattern}: matches no {wanted}; {format_path(first.path)} is {place(first)}"
        )
    names = {str(slot.path[-1]) for slot in walk(config)}
    near = [".".join((*steps[:-1], name)) for name in closest(steps[-1], names)]
    hint = " or ".join(f"'{text}'" for text in near)
    end = f"; did you mean {hint}?" if near and steps[-1] not in names else ""
    raise ConfigError(f"{pattern}: matches nothing{end}")


def _values_for(slots: list[Slot], text: str) -> list[Any]:
    """Return the value for each slot, or refuse with every reason at once."""
    values: list[Any] = []
    problems: list[str] = []
    for slot in slots:
        try:
            values.append(_value_for(slot, text))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigErrors(problems)
    return values


def _value_for(slot: Slot, text: str) -> Any:  # noqa: ANN401
    made = new_components(slot, text)
    if made is not None:
        return made
    holds_component = isinstance(slot.value, fdl.Buildable)
    try:
        value = coerce(text, slot.annotation, format_path(slot.path))
    except CoerceError as error:
        if holds_component:
            raise ConfigError(_component_is_here(slot, text)) from None
        raise ConfigError(f"{error} (now {place(slot)})") from None
    if holds_component and value is not None:
        raise ConfigError(_component_is_here(slot, text))
    return value


def _component_is_here(slot: Slot, text: str) -> str:
    path = format_path(slot.path)
    names = ", ".join(parameters(slot.value)) or "nothing"
    return (
        f"{path}: got {text!r}, but this is {place(slot)}; put another component here with "
        f"{path}=@kind/name, or set one of its parameters: {names}"
    )
