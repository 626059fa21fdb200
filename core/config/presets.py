"""Presets: named functions that edit an experiment's configuration in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__sori_preset__"


def preset(function: F) -> F:
    """Mark ``function(config)`` as a preset, applied by ``+name``, and return it unchanged."""
    setattr(function, _MARK, True)
    return function


def is_preset(value: object) -> bool:
    """Return whether :func:`preset` marked this very function."""
    return callable(value) and _MARK in getattr(value, "__dict__", {})
