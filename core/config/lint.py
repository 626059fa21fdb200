"""What is wrong with a configuration, found without building it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import fiddle as fdl

from core.config.components import component_problem, kinds_for
from core.config.hints import HintError, describe, parameter_hints, qualified_name
from core.config.naming import label, location, place
from core.config.tree import (
    UNSET,
    Slot,
    default_factories,
    format_path,
    is_configurable,
    missing_arguments,
    parameters,
    walk,
)
from core.config.values import format_value, holds_buildable, is_plain, matches
from core.errors import suggest


def lint(config: fdl.Buildable[Any]) -> list[str]:
    """Return every problem of a configuration, empty for a good one.

    Looked at are all values and defaults against their type hints, components against what their
    place takes, required arguments, objects that hide from overrides and snapshots, and the
    signatures of everything configured (``**kwargs``, mutable defaults, hints that do not
    resolve).
    """
    problems = [missing_problem(slot) for slot in missing_arguments(config)]
    seen_callables: set[Any] = set()
    seen_slots: set[tuple[int, Any]] = set()
    for function in _callables(config):
        if function not in seen_callables:
            seen_callables.add(function)
            problems.extend(_callable_problems(function))
    for slot in walk(config):
        key = (id(slot.owner), (slot.parameter, slot.inner))
        if key not in seen_slots:
            seen_slots.add(key)
            problems.extend(_slot_problems(slot))
    return problems


def missing_problem(slot: Slot) -> str:
    """Say that a required argument is missing, and the override that gives it."""
    path, kinds = format_path(slot.path), kinds_for(slot.annotation)
    example = f"@{kinds[0]}/NAME" if kinds else f"<{describe(slot.annotation)}>"
    owner = fdl.get_callable(slot.owner).__name__
    return f"{path}: required by {owner} and not set; give it with {path}={example}"


def _callables(config: fdl.Buildable[Any]) -> Iterator[Callable[..., Any]]:
    yield fdl.get_callable(config)
    for slot in walk(config):
        if isinstance(slot.value, fdl.Buildable):
            yield fdl.get_callable(slot.value)


def _callable_problems(function: Callable[..., Any]) -> Iterator[str]:
    name = qualified_name(function)
    if "<locals>" in name or "<lambda>" in name:
        yield f"{name}: is not at module level, so that a run could not be replayed; move it there"
    if inspect.isabstract(function):
        yield f"{name}: is abstract and cannot be built"
    try:
        parameter_hints(function)
    except HintError as error:
        yield f"{error}; import the name at run time, not under TYPE_CHECKING"
    for parameter in _signature(function):
        if not is_configurable(parameter):
            shown = str(parameter.replace(annotation=parameter.empty))
            yield f"{name}: takes {shown}, where a mistyped name goes unseen; name every parameter"
        if isinstance(parameter.default, list | dict | set):
            default = format_value(parameter.default)
            yield (
                f"{name}: parameter '{parameter.name}' has the mutable default {default}; use a "
                "tuple, or None"
            )
    yield from _factory_problems(function, name)


def _signature(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a callable; none for a module that leaves its constructor to torch.

    The constructor of ``torch.nn.Module`` is written with ``*args, **kwargs`` but refuses both. It
    is known by its class, since torch.compile puts another function in its place.
    """
    owners = (owner for owner in getattr(function, "__mro__", ()) if "__init__" in vars(owner))
    if qualified_name(next(owners, None)) == "torch.nn.modules.module.Module":
        return []
    return list(inspect.signature(function).parameters.values())


def _factory_problems(function: Callable[..., Any], name: str) -> Iterator[str]:
    for field, factory in default_factories(function).items():
        made = factory()
        if not is_plain(made):
            yield (
                f"{name}: field '{field}' hides a {type(made).__name__} in its default_factory, "
                "where no override reaches it; make it required and configure it"
            )


def _slot_problems(slot: Slot) -> Iterator[str]:
    path, value = format_path(slot.path), slot.value
    owner = fdl.get_callable(slot.owner)
    if value is UNSET or (slot.default and slot.parameter in default_factories(owner)):
        return
    if not slot.inner and slot.parameter not in parameters(slot.owner):
        hint = suggest(slot.parameter, parameters(slot.owner), noun="parameters")
        yield f"{path}: {owner.__name__} has no parameter '{slot.parameter}'; {hint}"
        return
    if isinstance(value, fdl.Buildable):
        problem = component_problem(type(value), fdl.get_callable(value), slot.annotation)
        if problem:
            yield f"{path}{problem} (now {place(slot)})"
    elif slot.is_leaf and not is_plain(value):
        yield f"{path}: {_hidden(value)} ({location(slot)})"
    elif isinstance(value, types.FunctionType | type) and "<" in value.__qualname__:
        yield (
            f"{path}: {qualified_name(value)} is not at module level, so that a run could not be "
            f"replayed; move it there ({location(slot)})"
        )
    elif not slot.inner and not matches(value, slot.annotation):
        expected = describe(slot.annotation)
        yield f"{path}: expected {expected}, got {label(value)} ({location(slot)})"


def _hidden(value: Any) -> str:  # noqa: ANN401
    kind = qualified_name(type(value))
    if _contains_buildable(value):
        return (
            f"an object of {kind} holds a fdl.Config, which would never be built; describe the "
            "object itself with fdl.Config"
        )
    if kind == "torch.device":
        return "a torch.device cannot be saved with a run; give its name as a string"
    return f"an object of {kind} can be neither overridden nor saved; describe it with fdl.Config"


def _contains_buildable(value: Any) -> bool:  # noqa: ANN401
    inside: list[Any] = list(value) if isinstance(value, set | frozenset) else []
    inside += list(vars(value).values()) if hasattr(value, "__dict__") else []
    return any(holds_buildable(item) for item in inside)
