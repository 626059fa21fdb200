"""Components by kind and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def register(kind: str, name: str) -> Callable[[T], T]:
    """Register a class or factory under ``kind`` and ``name`` and return it unchanged."""

    def decorate(component: T) -> T:
        return component

    return decorate
