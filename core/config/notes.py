"""What an experiment function has to say of a choice that it made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def note(text: str) -> None:
    """Tell the user a line, from inside an ``experiment`` function: it stands in the run's log."""
    found = _notes.get()
    if found is not None:
        found.append(text)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collect what :func:`note` is told inside the block."""
    found: list[str] = []
    token = _notes.set(found)
    try:
        yield found
    finally:
        _notes.reset(token)
