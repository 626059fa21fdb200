"""Components by short names such as ``nemo:train.jsonl`` or ``hf:user/corpus?split=train``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from core import catalog
from core.errors import ConfigError, suggest
from core.registry import lookup


def make(uri: str, *, kind: str, noun: str) -> Any:  # noqa: ANN401
    """Make the component that ``uri`` names, without touching what it stands for.

    Args:
        uri: ``scheme:location[?option=value&...]``, where the scheme is the name of a registered
            component and the options are arguments of its constructor.
        kind: of the component.
        noun: what it is to a user, for messages.

    Raises:
        ConfigError: scheme or option is unknown, or a value is not of the option's type.
    """
    head, _, query = uri.partition("?")
    scheme, colon, location = head.partition(":")
    names = sorted(catalog.index().names(kind))
    label = f"{noun} '{uri}'"
    if not colon or "/" in scheme or scheme.startswith("."):
        schemes = ", ".join(f"'{name}:'" for name in names)
        raise ConfigError(
            f"{label} does not say what it is; put one of {schemes} before it, such as 'nemo:{uri}'"
        )
    if scheme not in names:
        raise ConfigError(
            f"{label}: unknown scheme '{scheme}'; " + suggest(scheme, names, noun="schemes")
        )
    component = lookup(kind, scheme)
    options = _options(query, component, label)
    if location:
        options["location"] = location
    elif inspect.signature(component).parameters["location"].default is inspect.Parameter.empty:
        raise ConfigError(f"{label}: expected a location after '{scheme}:'")
    return component(**options)


def _options(query: str, component: Callable[..., Any], label: str) -> dict[str, Any]:
    accepted = _accepted(component)
    options: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"{label}: expected option=value, found '{pair}'")
        if key not in accepted:
            raise ConfigError(
                f"{label}: unknown option '{key}'; " + suggest(key, accepted, noun="options")
            )
        try:
            options[key] = converted(text, accepted[key])
        except ValueError as error:
            raise ConfigError(f"{label}: option {key}: {error}") from error
    return options


def _accepted(component: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the options of a component with their types."""
    signature = inspect.signature(component)
    target = component.__init__ if inspect.isclass(component) else component
    hints = get_type_hints(target)
    return {name: hints[name] for name in signature.parameters if name != "location"}


def converted(text: str, hint: Any) -> Any:  # noqa: ANN401
    """Read a value of type ``hint`` from text. Raises ValueError saying what was expected."""
    if get_origin(hint) in (Union, types.UnionType):
        return _first_of(text, get_args(hint))
    if get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in get_args(hint)}
        if text not in choices:
            raise ValueError(f"'{text}' is not a choice; " + suggest(text, choices, noun="choices"))
        return choices[text]
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"'{text}' is not a bool; expected true or false")
        return text.lower() == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"'{text}' is not of type {hint.__name__}") from None
    return Path(text) if hint is Path else text


def _first_of(text: str, hints: tuple[Any, ...]) -> Any:  # noqa: ANN401
    if types.NoneType in hints and text.lower() == "none":
        return None
    # str takes anything, so it comes last.
    for hint in sorted(hints, key=lambda hint: hint is str):
        if hint is types.NoneType:
            continue
        try:
            return converted(text, hint)
        except ValueError as error:
            fault = error
    raise fault
