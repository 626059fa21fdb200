"""Walking a configuration: every parameter and element of it as a slot with its path."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import fiddle as fdl

from core.config.hints import item_annotation, safe_hints
from core.config.values import Symbol, holds_buildable

KeyPath: TypeAlias = tuple[str | int, ...]
"""Parameter names, mapping keys and sequence indices from the root."""

_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
UNSET = Symbol("<required, not set>")
"""Stands for a required argument without a value."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place in a configuration that holds a value.

    Args:
        path: from the root.
        value: what is there: the default where nothing was set, UNSET where nothing can be had.
        annotation: resolved type hint of the place.
        owner: the innermost Buildable around the place.
        parameter: its parameter that holds the place.
        default: whether the parameter was never set, so that the default holds.
        inner: steps from the parameter to the place, inside lists and mappings.
        whole: value of the parameter that holds the place.
    """

    path: KeyPath
    value: Any
    annotation: Any
    owner: fdl.Buildable[Any]
    parameter: str
    default: bool
    whole: Any
    inner: KeyPath = ()

    @property
    def is_leaf(self) -> bool:
        """Whether nothing is configured below: plain data, lists of plain data included."""
        return not holds_buildable(self.value) and not (isinstance(self.value, dict) and self.value)


def format_path(path: KeyPath) -> str:
    """Return the canonical form: ``a.b[0].c``, with odd mapping keys as ``a["x.y"]``."""
    text = ""
    for step in path:
        if isinstance(step, str) and _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]" if isinstance(step, int) else f'["{step}"]'
    return text


def is_configurable(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter can be set by name."""
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def parameters(node: fdl.Buildable[Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a Buildable's callable that can be set by name."""
    found = node.__signature_info__.parameters
    return {name: p for name, p in found.items() if is_configurable(p)}


def default_factories(function: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Return the ``default_factory`` of each dataclass field that has one."""
    fields = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    return {
        field.name: field.default_factory
        for field in fields
        if field.default_factory is not dataclasses.MISSING
    }


def default_of(node: fdl.Buildable[Any], name: str) -> Any:  # noqa: ANN401
    """Return the default of a parameter (that of a ``default_factory`` built anew), or UNSET."""
    factory = default_factories(fdl.get_callable(node)).get(name)
    if factory is not None:
        return factory()
    parameter = parameters(node).get(name)
    if parameter is None or parameter.default is parameter.empty:
        return UNSET
    return parameter.default


def slots_of(node: fdl.Buildable[Any], path: KeyPath = ()) -> Iterator[Slot]:
    """Yield the slots of one Buildable, without those below, in the order of its signature."""
    hints = safe_hints(fdl.get_callable(node))
    names = [*parameters(node), *(n for n in node.__arguments__ if n not in parameters(node))]
    for name in names:
        is_set = name in node.__arguments__
        value = node.__arguments__[name] if is_set else default_of(node, name)
        yield Slot(
            path=(*path, name),
            value=value,
            whole=value,
            annotation=hints.get(name, Any),
            owner=node,
            parameter=name,
            default=not is_set,
        )


def items_of(slot: Slot) -> Iterator[Slot]:
    """Yield the slots directly below a slot: parameters, elements or mapping values."""
    value = slot.value
    if isinstance(value, fdl.Buildable):
        yield from slots_of(value, slot.path)
        return
    keys: Any = value if isinstance(value, dict) else ()
    if isinstance(value, list | tuple):
        keys = range(len(value))
    for key in keys:
        yield dataclasses.replace(
            slot,
            path=(*slot.path, key),
            value=value[key],
            annotation=item_annotation(slot.annotation, key),
            inner=(*slot.inner, key),
        )


def walk(config: fdl.Buildable[Any]) -> Iterator[Slot]:
    """Yield every slot, parents first; a shared Buildable is walked once for each path to it."""
    pending = list(slots_of(config))[::-1]
    while pending:
        slot = pending.pop()
        yield slot
        pending.extend(list(items_of(slot))[::-1])


def missing_arguments(config: fdl.Buildable[Any]) -> list[Slot]:
    """Return the required arguments without a value; what a Partial leaves open is not one."""
    found = {
        (id(slot.owner), slot.parameter): slot
        for slot in reversed(list(walk(config)))
        if slot.value is UNSET and isinstance(slot.owner, fdl.Config)
    }
    return list(found.values())[::-1]


def paths_to(config: fdl.Buildable[Any], node: fdl.Buildable[Any]) -> list[KeyPath]:
    """Return every path to a Buildable, in the order of the walk; the root has the empty path."""
    if node is config:
        return [()]
    return [slot.path for slot in walk(config) if slot.value is node]
