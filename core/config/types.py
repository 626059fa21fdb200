"""Command-line text to values, against a resolved type annotation."""

from __future__ import annotations

import contextlib
import enum
import math
import re
import typing
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, get_args, get_origin

from core.config.hints import (
    MAPPINGS,
    SEQUENCES,
    describe,
    is_callable_hint,
    is_dtype,
    is_object_hint,
    literal_text,
    members,
    unwrap,
)
from core.config.literals import enclosed, literal, split, unquote
from core.config.values import format_value, matches
from core.errors import ConfigError, closest

TRUE, FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
NULL = frozenset({"null", "None"})
_INT = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
_FLOAT = re.compile(
    r"[+-]?(([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|inf)",
)


class CoerceError(ConfigError):
    """A text does not spell a value of the expected type."""


def coerce(value: Any, annotation: Any, path: str) -> Any:  # noqa: ANN401
    """Return the value of type ``annotation`` that a command-line text spells.

    A text for ``str`` is taken as it stands. Lists are written ``[a, b]``, mappings
    ``{key: value}``, and strings inside them may be quoted. ``null`` and ``None`` spell None. A
    value that is not text is returned if it fits (an int becomes a float where one is expected).

    Args:
        value: command-line text, or a Python value.
        annotation: resolved type hint.
        path: where the value is to go, for the message.

    Raises:
        CoerceError: naming the path, the expected type and what was found.
    """
    if isinstance(value, str):
        return _coerce_text(value, annotation, path)
    if not matches(value, annotation):
        raise _refusal(path, annotation, format_value(value))
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_int and unwrap(annotation) is float else value


def _coerce_text(text: str, annotation: Any, path: str) -> Any:  # noqa: ANN401
    alternatives = members(annotation)
    if len(alternatives) == 1:
        return _coerce_member(text, alternatives[0], path)
    for member in sorted(alternatives, key=_specificity):
        with contextlib.suppress(CoerceError):
            return _coerce_member(text, member, path)
    raise _refusal(path, annotation, repr(text), _hint(text, alternatives))


def _specificity(annotation: Any) -> int:  # noqa: ANN401
    """Order the members of a union so that the one that accepts least is tried first."""
    if get_origin(annotation) is typing.Literal:
        return 0
    order: tuple[Any, ...] = (type(None), bool, int, float)
    if annotation in order:
        return 1 + order.index(annotation)
    if annotation in (Any, object):
        return 9
    return 8 if annotation is str else 7


def _coerce_member(text: str, annotation: Any, path: str) -> Any:  # noqa: ANN401
    base = get_origin(annotation) or annotation
    simple = _SIMPLE.get(base) if isinstance(base, typing.Hashable) else None
    if simple is not None:
        found, value = simple(text)
        if found:
            return value
        raise _refusal(path, annotation, repr(text), _hint(text, (annotation,)))
    if base is typing.Literal:
        return _coerce_choice(text, {c: literal_text(c) for c in get_args(annotation)}, path)
    if base in MAPPINGS:
        return _coerce_mapping(text, annotation, path)
    if base in SEQUENCES:
        return _coerce_sequence(text, annotation, path)
    if isinstance(base, type) and issubclass(base, enum.Enum):
        return base[_coerce_choice(text, {n: repr(n) for n in base.__members__}, path)]
    if isinstance(base, type) and issubclass(base, PurePath):
        if not text:
            raise _refusal(path, annotation, repr(text))
        return base(text)
    if is_dtype(base):
        return _coerce_dtype(text, path)
    raise CoerceError(_not_writable(path, annotation, text))


def _coerce_none(text: str) -> tuple[bool, Any]:
    return text in NULL, None


def _coerce_bool(text: str) -> tuple[bool, Any]:
    return text.lower() in TRUE | FALSE, text.lower() in TRUE


def _coerce_int(text: str) -> tuple[bool, Any]:
    found = _INT.fullmatch(text) is not None and len(text) <= 100
    return found, int(text) if found else None


def _coerce_float(text: str) -> tuple[bool, Any]:
    found = _FLOAT.fullmatch(text) is not None
    return found, float(text) if found else None


_SIMPLE: dict[Any, Callable[[str], tuple[bool, Any]]] = {
    type(None): _coerce_none,
    bool: _coerce_bool,
    int: _coerce_int,
    float: _coerce_float,
    str: lambda text: (True, text),
    object: lambda text: (True, literal(text)),
    Any: lambda text: (True, literal(text)),
}


def _coerce_choice(text: str, choices: dict[Any, str], path: str) -> Any:  # noqa: ANN401
    """Return the choice that the text spells; ``choices`` maps each to its printed form."""
    spelled = {printed if not isinstance(c, str) else c: c for c, printed in choices.items()}
    if text in spelled:
        return spelled[text]
    near = closest(text, spelled, limit=1)
    suggestion = choices[spelled[near[0]]] if near else ""
    expected = "one of " + ", ".join(choices.values())
    raise CoerceError(_message(path, expected, repr(text), suggestion))


def _coerce_sequence(text: str, annotation: Any, path: str) -> Any:  # noqa: ANN401
    base, arguments = get_origin(annotation) or annotation, get_args(annotation)
    inner = enclosed(text, "[]")
    inner = enclosed(text, "()") if inner is None else inner
    if inner is None:
        whole = not text.startswith(("[", "(")) and not text.endswith(("]", ")"))
        raise _refusal(path, annotation, repr(text), f"[{text}]" if whole else "")
    items = _split(inner, annotation, path, text)
    fixed = base is tuple and arguments and Ellipsis not in arguments
    if fixed and len(items) != len(arguments):
        raise _refusal(path, annotation, f"{len(items)} of {len(arguments)} items in {text!r}")
    hints = arguments if fixed else [arguments[0] if arguments else Any] * len(items)
    values = [_coerce_item(item, hints[i], f"{path}[{i}]") for i, item in enumerate(items)]
    return values if base is list else tuple(values)


def _coerce_mapping(text: str, annotation: Any, path: str) -> dict[Any, Any]:  # noqa: ANN401
    key_hint, value_hint = get_args(annotation) or (str, Any)
    inner = enclosed(text, "{}")
    if inner is None:
        raise _refusal(path, annotation, repr(text), "{key: value}")
    result: dict[Any, Any] = {}
    for item in _split(inner, annotation, path, text):
        key, *rest = split(item, ":", limit=1)
        if not rest:
            raise _refusal(path, annotation, f"{item!r} in {text!r}", "{key: value}")
        name = _coerce_item(key, key_hint, f"{path} key")
        if name in result:
            raise CoerceError(f"{path}: key {name!r} is given twice in {text!r}")
        result[name] = _coerce_item(rest[0], value_hint, f"{path}.{name}")
    return result


def _split(inner: str, annotation: Any, path: str, text: str) -> list[str]:  # noqa: ANN401
    try:
        return split(inner)
    except ValueError as error:
        raise CoerceError(
            f"{path}: expected {describe(annotation)}, got {text!r}: {error}"
        ) from None


def _coerce_item(text: str, annotation: Any, path: str) -> Any:  # noqa: ANN401
    quoted = unquote(text)
    if quoted is None:
        return _coerce_text(text, annotation, path)
    if not any(matches(quoted, member) for member in members(annotation)):
        raise _refusal(path, annotation, f"the string {text}")
    return quoted


def _coerce_dtype(text: str, path: str) -> Any:  # noqa: ANN401
    import torch

    names = {n: v for n, v in vars(torch).items() if isinstance(v, torch.dtype)}
    name = text.removeprefix("torch.")
    if name in names:
        return names[name]
    near = closest(name, names, limit=1)
    raise CoerceError(
        _message(path, "a torch dtype such as 'float32'", repr(text), repr(near[0]) if near else "")
    )


def _hint(text: str, alternatives: tuple[Any, ...]) -> str:
    """Return the spelling that was probably meant, or nothing."""
    if type(None) in alternatives and text.lower() in ("none", "nil", "~", ""):
        return "null"
    if bool in alternatives and text in ("0", "1"):
        return "true" if text == "1" else "false"
    if int in alternatives and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        number = float(text)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else ""
    choices = [c for member in alternatives for c in get_args(member) if isinstance(c, str)]
    return "".join(map(repr, closest(text, choices, limit=1)))


def _not_writable(path: str, annotation: Any, text: str) -> str:  # noqa: ANN401
    if is_callable_hint(annotation):
        return f"{path}: takes a function, which cannot be written as text; got {text!r}"
    if is_object_hint(annotation):
        return (
            f"{path}: expected a component (@kind/name) that makes {describe(annotation)}, "
            f"got {text!r}"
        )
    return f"{path}: a value of type {describe(annotation)} cannot be written as text; got {text!r}"


def _refusal(path: str, annotation: Any, found: str, suggestion: str = "") -> CoerceError:  # noqa: ANN401
    return CoerceError(_message(path, describe(annotation), found, suggestion))


def _message(path: str, expected: str, found: str, suggestion: str = "") -> str:
    end = f"; did you mean {suggestion}?" if suggestion else ""
    return f"{path}: expected {expected}, got {found}{end}"
