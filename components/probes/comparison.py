"""What one representation tells less than another: the table that an adversary is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from components.probes.classification import ProbeResult
from components.probes.report import ProbeReport, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of two representations.

    Args:
        name: of the property or figure.
        probe: that measured it, such as ``linear`` or ``linear, R2``; empty for other figures.
        before: of the first.
        after: of the second.
        removed: how much of the accuracy above chance is gone; NaN where there was none, None for
            what is no accuracy.
    """

    name: str
    probe: str
    before: float
    after: float
    removed: float | None = None

    @property
    def percent(self) -> float:
        """Change in percent of ``before``; NaN where that is 0."""
        return 100.0 * (self.after / self.before - 1.0) if self.before else math.nan

    @property
    def key(self) -> str:
        """Name in JSON and metrics, such as ``speaker_linear`` or ``prosody_linear_r2``."""
        probe = self.probe.replace(", ", "_").lower()
        return f"{self.name}_{probe}" if probe else self.name

    def row(self) -> tuple[str, ...]:
        """Return the row of the table."""
        if self.removed is not None:
            removed = "-" if math.isnan(self.removed) else f"{self.removed:.1%}"
            change = f"{100 * (self.after - self.before):+.1f} points"
            told = (f"{self.before:.1%}", f"{self.after:.1%}")
            return self.name, self.probe, *told, change, removed
        change = f"{self.after - self.before:+.4g}"
        if "loss" in self.name and math.isfinite(self.percent):
            change += f" ({self.percent:+.2f} %)"
        return self.name, self.probe, f"{self.before:.4g}", f"{self.after:.4g}", change, ""

    def as_dict(self) -> dict[str, float | None]:
        """Return the figures for JSON, which has no NaN."""
        found: dict[str, float | None] = {"before": self.before, "after": self.after}
        if self.removed is None:
            found["difference"] = self.after - self.before
            found["percent"] = self.percent if math.isfinite(self.percent) else None
        else:
            found["points"] = 100.0 * (self.after - self.before)
            found["removed"] = self.removed if math.isfinite(self.removed) else None
        return found


def share_removed(before: ProbeResult, after: ProbeResult) -> float:
    """Return how much of the accuracy above chance is gone; NaN where there was none."""
    above = before.accuracy - before.chance
    return (before.accuracy - after.accuracy) / above if above > 0.0 else math.nan


def differences(before: ProbeReport, after: ProbeReport) -> list[Difference]:
    """Return what two representations have in common, figure by figure.

    Args:
        before: of the run to compare with, such as a twin without an adversary.
        after: of the run in question, measured on the same rows.
    """
    return [*_accuracies(before, after), *_numbers(before, after), *_figures(before, after)]


def compare(before: ProbeReport, after: ProbeReport) -> list[str]:
    """Return the table of :func:`differences`."""
    head = ("property", "probe", before.name, after.name, "difference", "above chance removed")
    return table([head, *(each.row() for each in differences(before, after))])


def _accuracies(before: ProbeReport, after: ProbeReport) -> Iterator[Difference]:
    for name, results in before.classes.items():
        for old, new in zip(results, after.classes.get(name, ()), strict=False):
            yield Difference(
                name=name,
                probe=old.kind,
                before=old.accuracy,
                after=new.accuracy,
                removed=share_removed(old, new),
            )


def _numbers(before: ProbeReport, after: ProbeReport) -> Iterator[Difference]:
    for name, results in before.numbers.items():
        for old, new in zip(results, after.numbers.get(name, ()), strict=False):
            probe = f"{old.kind}, R2"
            yield Difference(name=name, probe=probe, before=old.value, after=new.value)


def _figures(before: ProbeReport, after: ProbeReport) -> Iterator[Difference]:
    old, new = before.metrics(), after.metrics()
    for name in ("speaker_eer", "norm", "effective_rank", *before.extra):
        key = f"probe/{name}"
        if key in old and key in new:
            yield Difference(name=name, probe="", before=old[key], after=new[key])
