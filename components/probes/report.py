"""What a representation tells, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from components.probes.classification import ProbeResult, train_probe
from components.probes.fitting import Fitting, Kind
from components.probes.geometry import Geometry, geometry
from components.probes.intervals import mean
from components.probes.regression import RegressionResult, train_regression_probe
from components.probes.verification import Verification, open_set_verification

KINDS: tuple[Kind, ...] = ("linear", "mlp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """Everything that was measured of one frozen representation.

    Args:
        name: of the representation, such as that of its run.
        classes: probes of each property with classes, such as ``speaker`` and ``emotion``.
        numbers: probes of each property with numbers, such as ``prosody``.
        geometry: size and spread.
        verification: of speakers never trained on; None if there were none.
        extra: further figures for the table, such as a loss with the representation shuffled.
    """

    name: str
    classes: Mapping[str, tuple[ProbeResult, ...]]
    numbers: Mapping[str, tuple[RegressionResult, ...]]
    geometry: Geometry
    verification: Verification | None = None
    extra: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the report for people; intervals are of 95 %."""
        head: tuple[str, ...] = ("property", "probe", "accuracy", "interval", "over seeds")
        head += ("balanced", "shuffled", "chance", "majority")
        rows = [_class_row(n, result) for n, found in self.classes.items() for result in found]
        lines = [f"probes of {self.name}", *table([head, *rows])]
        if self.numbers:
            head = ("property", "probe", "R2", "over seeds", "shuffled", "by target")
            rows = [_number_row(n, result) for n, found in self.numbers.items() for result in found]
            lines += ["", *table([head, *rows])]
        lines.append("")
        if self.verification is not None:
            told = self.verification
            lines.append(
                f"open-set speaker verification: EER {told.eer:.1%} over {told.speakers} speakers, "
                f"{told.same:,} pairs of one and {told.other:,} of two"
            )
        size = self.geometry
        lines.append(
            f"norm {size.norm:.4g} (deviation {size.norm_deviation:.3g}), spread {size.spread:.4g},"
            f" effective rank {size.effective_rank:.1f} of {size.dimensions}"
        )
        return lines + [f"{name}: {value:.4g}" for name, value in self.extra.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        told = self.verification
        return {
            "name": self.name,
            "classes": {n: [r.as_dict() for r in found] for n, found in self.classes.items()},
            "numbers": {n: [r.as_dict() for r in found] for n, found in self.numbers.items()},
            "verification": told.as_dict() if told is not None else None,
            "geometry": self.geometry.as_dict(),
            "extra": dict(self.extra),
        }

    def metrics(self) -> dict[str, float]:
        """Return the figures to track, such as ``probe/speaker_linear``."""
        found = {
            f"probe/{name}_{result.kind}": result.accuracy
            for name, results in self.classes.items()
            for result in results
        }
        found |= {
            f"probe/{name}_{result.kind}_r2": result.value
            for name, results in self.numbers.items()
            for result in results
        }
        if self.verification is not None:
            found["probe/speaker_eer"] = self.verification.eer
        found |= {
            "probe/norm": self.geometry.norm,
            "probe/effective_rank": self.geometry.effective_rank,
        }
        return found | {f"probe/{name}": value for name, value in self.extra.items()}


def probe_features(
    features: Tensor,
    *,
    name: str,
    classes: Mapping[str, Tensor],
    numbers: Mapping[str, Mapping[str, Tensor]] | None = None,
    groups: Tensor | None = None,
    unseen: tuple[Tensor, Tensor] | None = None,
    extra: Mapping[str, float] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    fitting: Fitting | None = None,
) -> ProbeReport:
    """Probe a frozen representation for everything that is known of its rows.

    Args:
        features: (N, D).
        name: of the representation.
        classes: (N,) int64 labels by property; rows with a negative one are left out of it.
        numbers: (N,) numbers by target, by property; rows that are not finite are left out of it.
        groups: (N,) int64 utterance of each row; None where each row is one.
        unseen: (M, D) features and (M,) speakers of people that the model was not trained on.
        extra: further figures for the table.
        seeds: of the probes, at least three for an interval that means something.
        fitting: settings of the probes.

    Raises:
        DataError: there are too few rows for a property, or features are not finite.
    """
    rows = torch.arange(len(features)) if groups is None else groups.cpu()
    told: dict[str, tuple[ProbeResult, ...]] = {}
    for label, values in classes.items():
        keep = values.cpu() >= 0
        told[label] = tuple(
            train_probe(
                features.cpu()[keep],
                values.cpu()[keep],
                groups=rows[keep],
                kind=kind,
                seeds=seeds,
                fitting=fitting,
            )
            for kind in KINDS
        )
    measured: dict[str, tuple[RegressionResult, ...]] = {}
    for label, targets in (numbers or {}).items():
        wanted = torch.stack([values.detach().cpu().float() for values in targets.values()], dim=1)
        keep = torch.isfinite(wanted).all(1)
        measured[label] = tuple(
            train_regression_probe(
                features.cpu()[keep],
                wanted[keep],
                names=tuple(targets),
                groups=rows[keep],
                kind=kind,
                seeds=seeds,
                fitting=fitting,
            )
            for kind in KINDS
        )
    return ProbeReport(
        name=name,
        classes=told,
        numbers=measured,
        geometry=geometry(features),
        verification=open_set_verification(*unseen) if unseen is not None else None,
        extra=dict(extra or {}),
    )


def _class_row(name: str, result: ProbeResult) -> tuple[str, ...]:
    return (
        name,
        result.kind,
        f"{result.accuracy:.1%}",
        _percent(result.interval),
        _percent(result.seed_interval) if len(result.top1) > 1 else "-",
        f"{mean(result.balanced):.1%}",
        f"{mean(result.control):.1%}",
        f"{result.chance:.1%}",
        f"{result.majority:.1%}",
    )


def _number_row(name: str, result: RegressionResult) -> tuple[str, ...]:
    low, high = result.seed_interval
    targets = ", ".join(f"{target} {value:.2f}" for target, value in result.by_target().items())
    return (
        name,
        result.kind,
        f"{result.value:.3f}",
        f"{low:.3f} to {high:.3f}" if len(result.r2) > 1 else "-",
        f"{mean(result.control):.3f}",
        targets,
    )


def _percent(interval: tuple[float, float]) -> str:
    low, high = (min(max(value, 0.0), 1.0) for value in interval)
    return f"{100 * low:.1f} to {high:.1%}"


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with columns of one width each."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
