"""Values that a configuration may hold: what they fit, and how they are printed."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar, get_args, get_origin

import fiddle as fdl

from core.config.hints import (
    MAPPINGS,
    PLAIN,
    SEQUENCES,
    is_callable_hint,
    is_dtype,
    is_object_hint,
    members,
    qualified_name,
)

PRINTABLE = (*PLAIN, type(None))


class Symbol(str):
    """Text that stands for something and is printed without quotes, such as ``@encoder/rnn``."""

    __slots__ = ()


def matches(value: Any, annotation: Any) -> bool:  # noqa: ANN401
    """Return whether a plain value or a ``fdl.Buildable`` fits an annotation.

    An int fits ``float``; a bool fits neither ``int`` nor ``float``. A list fits ``tuple[X, ...]``,
    so that code which edits a configuration can append to it. A Buildable fits wherever an
    object or a callable may stand; which component it is, is not looked at here.
    """
    return any(_matches_member(value, member) for member in members(annotation))


def _matches_member(value: Any, annotation: Any) -> bool:  # noqa: ANN401
    origin, arguments = get_origin(annotation), get_args(annotation)
    base = origin or annotation
    if base in (Any, object) or isinstance(annotation, TypeVar | str):
        return True
    if isinstance(value, fdl.Buildable):
        return is_object_hint(base) or is_callable_hint(annotation)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if base in MAPPINGS:
        return isinstance(value, Mapping) and _items_match(value, arguments)
    if base in SEQUENCES:
        return _matches_sequence(value, base, arguments)
    if is_callable_hint(annotation):
        return isinstance(value, type) if base is type else callable(value)
    if base is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if base is int:
        return isinstance(value, int) and not isinstance(value, bool)
    try:
        return isinstance(value, base)
    except TypeError:  # a protocol that cannot be checked at run time
        return not is_plain(value)


def _items_match(value: Mapping[Any, Any], arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    key, item = arguments
    return all(matches(k, key) and matches(v, item) for k, v in value.items())


def _matches_sequence(value: Any, base: Any, arguments: tuple[Any, ...]) -> bool:  # noqa: ANN401
    fixed = base is tuple and arguments and Ellipsis not in arguments
    if base is list or fixed:
        if not isinstance(value, base):
            return False
    elif not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    if fixed:
        return len(value) == len(arguments) and all(map(matches, value, arguments))
    return not arguments or all(matches(item, arguments[0]) for item in value)


def is_plain(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value is data that can be printed, compared and saved with a run."""
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, PLAIN) and is_plain(item) for key, item in value.items())
    if value is None or isinstance(value, (*PLAIN, enum.Enum, PurePath)):
        return True
    return isinstance(value, type | types.FunctionType) or is_dtype(type(value))


def holds_buildable(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value is a Buildable or a container with one inside."""
    if isinstance(value, list | tuple):
        return any(holds_buildable(item) for item in value)
    if isinstance(value, dict):
        return any(holds_buildable(item) for item in value.values())
    return isinstance(value, fdl.Buildable)


def format_value(value: Any) -> str:  # noqa: ANN401
    """Return a value as text that does not depend on the process: no addresses, no set order."""
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{qualified_name(type(value))}.{value.name}"
    if isinstance(value, PurePath):
        return f"Path({str(value)!r})"
    if isinstance(value, list):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(format_value, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, dict):
        pairs = (f"{format_value(key)}: {format_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(format_value, value))) + "}"
    if value is None or isinstance(value, (*PLAIN, bytes)) or is_dtype(type(value)):
        return repr(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return qualified_name(value)
    return f"<{qualified_name(type(value))}>"
