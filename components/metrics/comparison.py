"""Two models on the same utterances: which rate changed, by how much, and how surely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.metrics.error_rate import ErrorCounts
from components.metrics.tables import LABELS, table
from components.metrics.utterance import UtteranceResult
from core.errors import DataError

DRAWS = 1000
_SEED = 20040517


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A rate of both models.

    Args:
        baseline: of the model that is compared with.
        rate: of the model in question.
        interval: that holds the difference in 95 of 100 test sets drawn from this one, utterances
            with replacement, the same for both models (Bisani and Ney 2004).
    """

    baseline: float
    rate: float
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """Negative where the model in question makes fewer errors."""
        return self.rate - self.baseline


class Comparison:
    """What changed from a baseline to another model, utterance by utterance.

    Args:
        results: of the model in question, by utterance id.
        baseline: of the other, for the same ids and references.

    Raises:
        DataError: the utterances or their references are not the same.
    """

    def __init__(
        self, *, results: Mapping[str, UtteranceResult], baseline: Mapping[str, UtteranceResult]
    ) -> None:
        said = {name: result.reference for name, result in results.items()}
        if said != {name: result.reference for name, result in baseline.items()}:
            raise DataError("two models are compared on the same utterances; these differ")
        self._pairs = [(baseline[name], result) for name, result in results.items()]

    @property
    def improved(self) -> list[str]:
        """Ids of utterances with fewer character errors than the baseline's."""
        return self._where(lambda before, after: after < before)

    @property
    def worsened(self) -> list[str]:
        """Ids of utterances with more character errors than the baseline's, worst first."""
        return self._where(lambda before, after: after > before)

    def changes(self) -> dict[str, Change]:
        """Return each rate that is defined: there is something said, and Hangul for the jamo."""
        names = [name for name in LABELS if name != "jamo_error_rate" or self._hangul()]
        found = {name: self._change(name) for name in names}
        return {name: change for name, change in found.items() if change is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        changes = {
            name: {
                "baseline": change.baseline,
                "rate": change.rate,
                "difference": change.difference,
                "interval": list(change.interval),
            }
            for name, change in self.changes().items()
        }
        return {**changes, "improved": len(self.improved), "worsened": self.worsened}

    def lines(self, *, worst: int = 10) -> list[str]:
        """Return the comparison as lines of plain text."""
        rows = [
            (
                LABELS[name],
                f"{100 * change.baseline:.2f}",
                f"{100 * change.rate:.2f}",
                f"{100 * change.difference:+.2f}",
                f"{100 * change.interval[0]:+.2f} to {100 * change.interval[1]:+.2f}",
            )
            for name, change in self.changes().items()
        ]
        if not rows:
            return ["nothing was said, so there are no rates to compare"]
        better, worse = len(self.improved), self.worsened
        same = len(self._pairs) - better - len(worse)
        lines = table(("rate %", "un-adapted", "adapted", "change", "95 % interval"), rows)
        lines.append(
            f"  {better} utterances better, {len(worse)} worse, {same} with as many errors"
        )
        if worse and worst:
            by_id = {after.id: (before, after) for before, after in self._pairs}
            lines += ["", "Worse than before adaptation"]
            for name in worse[:worst]:
                before, after = by_id[name]
                lines += [
                    f"  {name}",
                    f"    said        {after.reference}",
                    f"    un-adapted  {before.hypothesis}",
                    f"    adapted     {after.hypothesis}",
                ]
        return lines

    def _where(self, wanted: Callable[[int, int], bool]) -> list[str]:
        found = [
            (after.characters.errors - before.characters.errors, after.id)
            for before, after in self._pairs
            if wanted(before.characters.errors, after.characters.errors)
        ]
        return [name for _, name in sorted(found, key=lambda item: (-abs(item[0]), item[1]))]

    def _hangul(self) -> bool:
        return any(before.hangul or after.hangul for before, after in self._pairs)

    def _change(self, name: str) -> Change | None:
        before = [pair[0].rates()[name] for pair in self._pairs]
        after = [pair[1].rates()[name] for pair in self._pairs]
        total = sum(counts.reference_length for counts in after)
        if total == 0:
            return None
        return Change(
            baseline=sum(counts.errors for counts in before) / total,
            rate=sum(counts.errors for counts in after) / total,
            interval=_interval(before, after),
        )


def _interval(before: list[ErrorCounts], after: list[ErrorCounts]) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the difference over resampled test sets."""
    gained: NDArray[np.int64] = np.array(
        [b.errors - a.errors for a, b in zip(before, after, strict=True)], dtype=np.int64
    )
    lengths = np.array([counts.reference_length for counts in after], dtype=np.int64)
    generator = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(DRAWS):
        rows = generator.integers(len(lengths), size=len(lengths))
        if said := lengths[rows].sum():
            drawn.append(gained[rows].sum() / said)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
