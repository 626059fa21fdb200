"""How much of continuous properties, such as prosody, a representation tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from components.probes.classification import checked
from components.probes.fitting import Fitting, Kind, fit, standardise
from components.probes.intervals import Interval, mean, over_seeds
from components.probes.splits import Split, split
from core.errors import DataError

_RIDGES = tuple(10.0**power for power in range(-4, 5))
"""Penalties to choose from, relative to the number of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionResult:
    """Shares of variance that one kind of probe explains on test rows.

    Args:
        kind: of the probe; ``linear`` is ridge regression.
        names: of the targets.
        r2: for each seed, the coefficient of determination of each target. Below 0 a probe is worse
            than the mean.
        control: mean over targets for each seed, where targets were shuffled over utterances.
        tested: rows in one test set.
    """

    kind: Kind
    names: tuple[str, ...]
    r2: tuple[tuple[float, ...], ...]
    control: tuple[float, ...]
    tested: int

    @property
    def value(self) -> float:
        """Mean over targets and seeds."""
        return mean([mean(values) for values in self.r2])

    @property
    def seed_interval(self) -> Interval:
        """Interval of the mean over seeds."""
        return over_seeds([mean(values) for values in self.r2])

    def by_target(self) -> dict[str, float]:
        """Return the mean over seeds of each target."""
        return {
            name: mean([values[number] for values in self.r2])
            for number, name in enumerate(self.names)
        }

    def as_dict(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        return {
            "kind": self.kind,
            "r2": self.value,
            "seed_interval": list(self.seed_interval) if len(self.r2) > 1 else None,
            "by_target": self.by_target(),
            "control": mean(self.control),
            "tested": self.tested,
        }


def train_regression_probe(
    features: Tensor,
    targets: Tensor,
    *,
    names: Sequence[str],
    groups: Tensor | None = None,
    kind: Kind = "linear",
    seeds: Sequence[int] = (0, 1, 2),
    fitting: Fitting | None = None,
) -> RegressionResult:
    """Fit fresh probes that predict numbers, as :func:`train_probe` does for classes.

    Args:
        features: (N, D).
        targets: (N, K) numbers, standardised here.
        names: of the K targets.
        groups: (N,) int64 utterance of each row; None where each row is one.
        kind: of the probe.
        seeds: one probe and one control for each.
        fitting: settings.

    Raises:
        DataError: there are fewer than ten utterances, or something is not finite.
    """
    x, groups = checked(features, groups)
    y, _ = checked(targets, groups)
    if len(names) != y.shape[1]:
        raise DataError(f"{y.shape[1]} targets have {len(names)} names: {', '.join(names)}")
    settings = fitting or Fitting()
    scores, control, tested = [], [], 0
    for seed in seeds:
        parts = split(groups, labels=None, seed=seed)
        standard = standardise(x, parts.train)
        wanted = standardise(y, parts.train)
        scores.append(tuple(_r2(kind, standard, wanted, parts, settings, seed).tolist()))
        generator = torch.Generator().manual_seed(1_000_003 + seed)
        shuffled = wanted[torch.randperm(len(wanted), generator=generator)]
        control.append(float(_r2(kind, standard, shuffled, parts, settings, seed).mean()))
        tested = len(parts.test)
    return RegressionResult(
        kind=kind, names=tuple(names), r2=tuple(scores), control=tuple(control), tested=tested
    )


def _r2(kind: Kind, x: Tensor, y: Tensor, parts: Split, fitting: Fitting, seed: int) -> Tensor:
    if kind == "linear":
        predicted = _ridge(x, y, parts)
    else:
        probe = fit(
            kind,
            train=(x[parts.train], y[parts.train]),
            stop=(x[parts.stop], y[parts.stop]),
            outputs=y.shape[1],
            loss=F.mse_loss,
            fitting=fitting,
            seed=seed,
        )
        with torch.no_grad():
            predicted = probe(x)
    return _determination(predicted[parts.test], y[parts.test])


def _ridge(x: Tensor, y: Tensor, parts: Split) -> Tensor:
    """Return predictions for all rows with, for each target, the penalty that suits it best."""
    design = x[parts.train].double()
    values, vectors = torch.linalg.eigh(design.T @ design / len(design))
    moments = vectors.T @ (design.T @ y[parts.train].double()) / len(design)
    rotated = x.double() @ vectors
    options = torch.stack(
        [rotated @ (moments / (values.clamp_min(0.0) + ridge).unsqueeze(1)) for ridge in _RIDGES]
    )
    errors = (options[:, parts.stop] - y[parts.stop].double()).square().mean(1)
    chosen = errors.argmin(0)
    return options[chosen, :, torch.arange(y.shape[1])].T.float()


def _determination(predicted: Tensor, wanted: Tensor) -> Tensor:
    left = (wanted - predicted).square().sum(0)
    everything = (wanted - wanted.mean(0)).square().sum(0)
    return 1.0 - left / everything.clamp_min(1e-12)
