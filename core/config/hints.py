"""Type hints of configurable callables: resolving, unwrapping and naming them."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Union, get_args, get_origin

from core.errors import ConfigError

SEQUENCES = (
    list,
    tuple,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
PLAIN = (bool, int, float, str)


class HintError(ConfigError):
    """The annotations of a callable cannot be resolved at run time."""


@functools.cache
def parameter_hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the resolved annotation of each annotated parameter of a class or function.

    Raises:
        HintError: if a name in an annotation does not exist at run time, which is the case for
            names imported under ``TYPE_CHECKING`` only.
    """
    target: Any = function
    if isinstance(function, type) and not dataclasses.is_dataclass(function):
        target = typing.cast("Any", function).__init__
        if target is object.__init__:
            return {}
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        raise HintError(f"{qualified_name(function)}: type hints do not resolve: {error}") from None
    hints.pop("return", None)
    return types.MappingProxyType(hints)


def safe_hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return :func:`parameter_hints`, or nothing where they do not resolve (lint reports that)."""
    try:
        return parameter_hints(function)
    except HintError:
        return {}


def qualified_name(function: Any) -> str:  # noqa: ANN401
    """Return ``module.qualname`` of a class or function."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module and module != "builtins" else str(name)


def unwrap(annotation: Any) -> Any:  # noqa: ANN401
    """Strip ``Annotated``, ``Final``, ``NewType`` and type aliases."""
    while True:
        origin = get_origin(annotation)
        if origin is typing.Annotated or origin is typing.Final:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif annotation is None:
            return type(None)
        else:
            return annotation


def members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the alternatives of an annotation: those of a union, else the annotation itself."""
    annotation = unwrap(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(part for member in get_args(annotation) for part in members(member))
    return (annotation,)


def is_optional(annotation: Any) -> bool:  # noqa: ANN401
    """Return whether ``None`` is one of the alternatives."""
    return type(None) in members(annotation)


def is_callable_hint(annotation: Any) -> bool:  # noqa: ANN401
    """Return whether an annotation (no union) is ``Callable`` or ``type``."""
    origin = get_origin(annotation) or annotation
    return origin in (collections.abc.Callable, type, functools.partial)


def is_dtype(annotation: Any) -> bool:  # noqa: ANN401
    """Return whether an annotation is ``torch.dtype``, without importing torch."""
    return qualified_name(annotation) == "torch.dtype"


def is_object_hint(annotation: Any) -> bool:  # noqa: ANN401
    """Return whether an annotation (no union) names a class whose objects a component builds."""
    if not isinstance(annotation, type) or annotation in (*PLAIN, type(None), object, Any):
        return False
    if is_dtype(annotation) or is_callable_hint(annotation):
        return False
    return not issubclass(annotation, (enum.Enum, PurePath, list, tuple, dict, set, bytes)) and (
        annotation not in (*SEQUENCES, *MAPPINGS)
    )


def item_annotation(annotation: Any, key: int | str) -> Any:  # noqa: ANN401
    """Return the annotation of an element of a sequence or of a value of a mapping."""
    for member in members(annotation):
        origin, arguments = get_origin(member) or member, get_args(member)
        if not arguments:
            continue
        if origin in MAPPINGS:
            return arguments[1]
        if origin is tuple and Ellipsis not in arguments:
            if isinstance(key, int) and key < len(arguments):
                return arguments[key]
        elif origin in SEQUENCES:
            return arguments[0]
    return Any


def describe(annotation: Any) -> str:  # noqa: ANN401
    """Name what an annotation accepts, in the words of a command line: ``int or null``."""
    names: list[str] = []
    for member in members(annotation):
        name = _describe_member(member)
        if name not in names:
            names.append(name)
    if "null" in names:
        names.remove("null")
        names.append("null")
    return " or ".join(names)


def _describe_member(annotation: Any) -> str:  # noqa: ANN401
    origin, arguments = get_origin(annotation), get_args(annotation)
    base = origin or annotation
    if annotation is type(None):
        return "null"
    if annotation is bool:
        return "bool (true, false, yes, no, on, off)"
    if origin is typing.Literal:
        return "one of " + ", ".join(literal_text(choice) for choice in arguments)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(f"'{name}'" for name in annotation.__members__)
    if base in MAPPINGS:
        return (
            f"mapping of {describe(arguments[0])} to {describe(arguments[1])}"
            if (arguments)
            else "mapping"
        )
    if base is tuple and arguments and Ellipsis not in arguments:
        return "[" + ", ".join(describe(argument) for argument in arguments) + "]"
    if base in SEQUENCES:
        return f"list of {describe(arguments[0])}" if arguments else "list"
    if is_callable_hint(annotation):
        return "a function"
    if annotation is Any:
        return "any value"
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return "a path"
    return str(getattr(annotation, "__name__", annotation))


def literal_text(choice: object) -> str:
    """Return a ``Literal`` choice as a user would read it: ``'bf16'``, ``3``, ``null``."""
    if choice is None:
        return "null"
    if isinstance(choice, bool):
        return str(choice).lower()
    return repr(choice)
