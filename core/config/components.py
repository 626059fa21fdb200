"""Which component may stand where: by kind, by class, and as an object or a partial."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, TypeVar, get_origin

import fiddle as fdl

from core import catalog, registry
from core.config.hints import describe, is_callable_hint, is_object_hint, members, qualified_name
from core.errors import ConfigError, RegistryError, closest

_KIND_IN_DOC = re.compile(r"\(kind\s+``(\w+)``\)")
_SPECIAL_METHODS = frozenset({"__call__", "__iter__", "__len__"})


def kind_of(annotation: Any) -> str | None:  # noqa: ANN401
    """Return the kind of component that a class or protocol stands for, or None.

    That is the kind it is registered under; else the one its docstring states, as in
    ``(kind ``encoder``)``; else its name in snake case, if there are components of that kind.
    """
    if not is_object_hint(annotation):
        return None
    component = registry.identify(annotation)
    if component:
        return component[0]
    stated = _KIND_IN_DOC.search(annotation.__doc__ or "")
    if stated:
        return stated[1]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", annotation.__name__).lower()
    return snake if snake in catalog.index().kinds() else None


def kinds_for(annotation: Any, function: Callable[..., Any] | None = None) -> tuple[str, ...]:  # noqa: ANN401
    """Return the kinds that a place takes; none if its annotation does not say.

    Args:
        annotation: of the place.
        function: the callable configured there now, whose kind counts if the annotation is silent.
    """
    kinds = [kind for member in members(annotation) if (kind := kind_of(member))]
    component = registry.identify(function) if function is not None and not kinds else None
    return tuple(dict.fromkeys([*kinds, *([component[0]] if component else [])]))


def find_component(
    reference: str,
    path: str,
    annotation: Any,  # noqa: ANN401
    function: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Return the component that ``@kind/name`` means at a place.

    Args:
        reference: text with the ``@``.
        path: of the place, for messages.
        annotation: of the place.
        function: the callable configured there now.

    Raises:
        ConfigError: the reference is malformed, unknown, broken, or of a kind the place does not
            take.
    """
    kind, slash, name = reference.removeprefix("@").partition("/")
    kinds = kinds_for(annotation, function)
    if not slash or not kind or not name:
        names = {f"@{known}/{n}" for known in kinds for n in catalog.index().names(known)}
        near = closest(reference, names, limit=1)
        end = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{path}: expected @kind/name, got {reference!r}{end}")
    if kinds and kind not in kinds and name in catalog.index().names(kind):
        raise ConfigError(f"{path}{wrong_kind(kind, name, kinds)}")
    try:
        component = registry.lookup(kind, name)
    except RegistryError as error:
        raise ConfigError(f"{path}: {error}") from None
    if kinds and kind not in kinds:
        raise ConfigError(f"{path}{wrong_kind(kind, name, kinds)}")
    return component


def wrong_kind(kind: str, name: str, kinds: tuple[str, ...]) -> str:
    """Say what a place takes, what it was given, and what there is of the right kind.

    The text goes on from the path of the place.
    """
    wanted = " or ".join(with_article(known) for known in kinds)
    text = f" takes {wanted}; {kind}/{name} is {with_article(kind)}"
    for known in kinds:
        names = ", ".join(f"'{n}'" for n in catalog.index().names(known)) or "none registered"
        text += f"; {plural(known)}: {names}"
    return text


def with_article(noun: str) -> str:
    """Return a noun with ``a`` or ``an``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return the plural of a kind."""
    if noun.endswith("ss"):
        return f"{noun}es"
    return noun if noun.endswith("s") or noun == "data" else f"{noun}s"


def component_problem(
    made_by: type[fdl.Buildable[Any]],
    function: Callable[..., Any],
    annotation: Any,  # noqa: ANN401
) -> str | None:
    """Say why what a Buildable makes does not fit a place, or return None if it does.

    The text goes on from the path of the place, as in `` takes an encoder; head/ctc is a head``.

    Args:
        made_by: ``fdl.Config``, ``fdl.Partial`` or ``fdl.ArgFactory``.
        function: the callable that is configured.
        annotation: of the place.
    """
    component, kinds = registry.identify(function), kinds_for(annotation)
    if component and kinds and component[0] not in kinds:
        return wrong_kind(*component, kinds)
    partial = issubclass(made_by, fdl.Partial)
    reasons = [_member_problem(partial, function, member) for member in members(annotation)]
    if None in reasons:
        return None
    return next((r for r in reasons if r and not r.startswith(": expected null")), reasons[-1])


def _member_problem(partial: bool, function: Callable[..., Any], member: Any) -> str | None:  # noqa: ANN401
    name = qualified_name(function)
    base = get_origin(member) or member
    if base in (Any, object) or isinstance(member, TypeVar):
        return None
    if is_callable_hint(member):
        if partial or not isinstance(function, type) or callable_instances(function):
            return None
        return f" takes a function, and objects of {name} cannot be called; use fdl.Partial"
    if not is_object_hint(base):
        if not partial and not isinstance(function, type):
            return None  # a function may return any value
        return f": expected {describe(member)}, found {name}"
    if getattr(base, "_is_protocol", False):
        return _protocol_problem(partial, function, base)
    if partial:
        return f" is fdl.Partial, and would stay a function; use fdl.Config to build {name}"
    if isinstance(function, type) and not issubclass(function, base):
        return f": expected a {base.__name__}, and {name} is not one"
    return None


def callable_instances(cls: type) -> bool:
    """Return whether objects of a class can be called."""
    return any("__call__" in vars(base) for base in cls.__mro__)


def _protocol_problem(partial: bool, function: Callable[..., Any], protocol: type) -> str | None:
    name, methods = qualified_name(function), protocol_methods(protocol)
    if partial:
        if methods <= {"__call__"}:
            return None
        return f" is fdl.Partial, and would stay a function; use fdl.Config to build {name}"
    if not isinstance(function, type):
        return None
    missing = sorted(
        m
        for m in methods
        if not (callable_instances(function) if m == "__call__" else hasattr(function, m))
    )
    if not missing:
        return None
    if missing == ["__call__"] and methods == {"__call__"}:
        return f": expected {protocol.__name__}, and objects of {name} cannot be called"
    return f": expected {protocol.__name__}, and {name} lacks {', '.join(missing)}"


def protocol_methods(protocol: type) -> frozenset[str]:
    """Return the methods and properties that a protocol asks for, inherited ones included."""
    found: set[str] = set()
    for base in protocol.__mro__:
        if base is typing.Protocol or not getattr(base, "_is_protocol", False):
            continue
        for name, value in vars(base).items():
            public = not name.startswith("_") or name in _SPECIAL_METHODS
            if public and (inspect.isfunction(value) or isinstance(value, property)):
                found.add(name)
    return frozenset(found)
