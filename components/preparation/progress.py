"""Signs of life of a long preparation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

_SAY_EVERY = 10.0


class Progress:
    """Says every ten seconds how much is done and how fast.

    Args:
        say: prints a line.
        counts: of ``made``, ``exists`` and ``failed``; with a total, also of ``utterances`` so far.
        total: utterances there are, where that is known.
    """

    def __init__(
        self, say: Callable[[str], None], counts: Counter[str], *, total: int | None = None
    ) -> None:
        self._say = say
        self._counts = counts
        self._total = total
        self._began = self._last = time.monotonic()

    def __call__(self) -> None:
        """Say a line if it is time for one."""
        now = time.monotonic()
        if now - self._last < _SAY_EVERY:
            return
        self._last = now
        counts = self._counts
        rate = counts["made"] / (now - self._began)
        place = "" if self._total is None else f"{counts['utterances']:,} of {self._total:,}: "
        self._say(
            f"{place}{counts['made']:,} made ({rate:.1f}/s), {counts['exists']:,} there already, "
            f"{counts['failed']:,} failed"
        )
