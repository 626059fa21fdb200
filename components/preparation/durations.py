"""A histogram of durations, as text and as data."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TypedDict

_EDGES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 60.0)
_BAR = 40


class Bin(TypedDict):
    """Utterances of ``begin`` up to but not including ``end`` seconds; None is no end."""

    begin: float
    end: float | None
    utterances: int
    kept: int
    hours: float


class DurationHistogram:
    """Counts utterances by duration.

    Args:
        limits: durations at which a bin is to begin, besides the usual ones.
    """

    def __init__(self, *, limits: Sequence[float]) -> None:
        self._edges = sorted({*_EDGES, *limits})
        self._counts = [0] * len(self._edges)
        self._kept = [0] * len(self._edges)
        self._seconds = [0.0] * len(self._edges)

    def add(self, seconds: float, *, kept: bool) -> None:
        """Count an utterance."""
        place = bisect.bisect_right(self._edges, seconds) - 1
        self._counts[place] += 1
        self._kept[place] += kept
        self._seconds[place] += seconds

    def bins(self) -> list[Bin]:
        """Return the bins from the first to the last that has an utterance."""
        used = [place for place, count in enumerate(self._counts) if count]
        if not used:
            return []
        ends = [*self._edges[1:], None]
        return [
            Bin(
                begin=self._edges[place],
                end=ends[place],
                utterances=self._counts[place],
                kept=self._kept[place],
                hours=round(self._seconds[place] / 3600, 6),
            )
            for place in range(used[0], used[-1] + 1)
        ]

    def lines(self) -> list[str]:
        """Return the histogram as a table with bars: ``#`` kept, ``.`` left out."""
        bins = self.bins()
        most = max((item["utterances"] for item in bins), default=0)
        lines = [f"{'seconds':>13}  {'utterances':>10}  {'kept':>10}  {'hours':>8}"]
        for item in bins:
            end = "" if item["end"] is None else f"{item['end']:g}"
            full = -(-_BAR * item["utterances"] // most) if most else 0
            solid = full * item["kept"] // item["utterances"] if item["utterances"] else 0
            lines.append(
                f"{item['begin']:>6g} -{end:>5}  {item['utterances']:>10,}  {item['kept']:>10,}  "
                f"{item['hours']:>8.2f}  {'#' * solid}{'.' * (full - solid)}".rstrip()
            )
        return lines
