"""Progress of a job with a known number of items: a bar on a terminal, else a few plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TypeVar

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 5.0


def progress(items: Iterable[T], *, total: int, title: str) -> Iterator[T]:
    """Yield ``items`` and show on standard error how many of ``total`` have passed."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        return iter(track(items, total=total, description=title, console=Console(stderr=True)))
    return _lines(items, total=total, title=title)


def _lines(items: Iterable[T], *, total: int, title: str) -> Iterator[T]:
    print(title, file=sys.stderr, flush=True)
    begun = shown = monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES and done < total:
            shown = now
            left = (now - begun) / done * (total - done)
            print(f"{title}: {done:,} done, {left:.0f} s left", file=sys.stderr, flush=True)
