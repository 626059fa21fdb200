"""What classes a representation tells: accuracy of fresh probes, beside what guessing gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from components.probes.fitting import Fitting, Kind, fit, standardise
from components.probes.intervals import Interval, mean, over_seeds, wilson
from components.probes.splits import Split, split
from core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Accuracies of one kind of probe, one number a seed.

    Args:
        kind: of the probe.
        top1: share of test rows whose class was the first choice.
        balanced: mean over classes of the share within the class.
        control: ``top1`` of a probe that was trained and tested on labels shuffled over utterances:
            what it can memorise (Hewitt and Liang 2019).
        chance: 1 / number of classes.
        majority: share of the most frequent class among the test rows.
        classes: their number.
        tested: utterances in one test set.
    """

    kind: Kind
    top1: tuple[float, ...]
    balanced: tuple[float, ...]
    control: tuple[float, ...]
    chance: float
    majority: float
    classes: int
    tested: int

    @property
    def accuracy(self) -> float:
        """Mean of ``top1``."""
        return mean(self.top1)

    @property
    def selectivity(self) -> float:
        """Accuracy less that of the control."""
        return self.accuracy - mean(self.control)

    @property
    def interval(self) -> Interval:
        """Binomial interval of the accuracy.

        Test sets of different seeds share utterances, so they count as one.
        """
        return wilson(self.accuracy, self.tested)

    @property
    def seed_interval(self) -> Interval:
        """Interval of the mean over seeds: divisions, weights and orders."""
        return over_seeds(self.top1)

    def as_dict(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        return {
            "kind": self.kind,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "seed_interval": list(self.seed_interval) if len(self.top1) > 1 else None,
            "balanced": mean(self.balanced),
            "control": mean(self.control),
            "selectivity": self.selectivity,
            "chance": self.chance,
            "majority": self.majority,
            "classes": self.classes,
            "tested": self.tested,
            "top1_by_seed": list(self.top1),
        }


def train_probe(
    features: Tensor,
    labels: Tensor,
    *,
    groups: Tensor | None = None,
    kind: Kind = "linear",
    seeds: Sequence[int] = (0, 1, 2),
    fitting: Fitting | None = None,
) -> ProbeResult:
    """Fit fresh probes that tell classes, and test them on utterances they have not seen.

    ``linear`` is multinomial logistic regression, ``mlp`` has one hidden layer. Every seed has a
    division into training, stopping and test utterances, weights and an order of its own. Features
    are standardised over the training rows. It runs on the CPU and depends on its arguments alone.

    Args:
        features: (N, D).
        labels: (N,) int64 classes, any numbers.
        groups: (N,) int64 utterance of each row; None where each row is one.
        kind: of the probe.
        seeds: one probe and one control for each.
        fitting: settings.

    Raises:
        DataError: there are fewer than two classes or ten utterances, or features are not finite.
    """
    x, groups = checked(features, groups)
    names, y = torch.unique(labels.cpu(), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"a probe tells classes apart, and there are {len(names)}")
    settings = fitting or Fitting()
    top1, balanced, control, majorities = [], [], [], []
    tested = 0
    for seed in seeds:
        parts = split(groups, labels=y, seed=seed)
        standard = standardise(x, parts.train)
        predicted = _predict(kind, standard, y, parts, len(names), settings, seed)
        truth = y[parts.test]
        counts = torch.bincount(truth, minlength=len(names))
        hits = torch.bincount(truth[predicted == truth], minlength=len(names))
        top1.append(float(hits.sum() / counts.sum()))
        balanced.append(float((hits / counts)[counts > 0].mean()))
        majorities.append(float(counts.max() / counts.sum()))
        tested = len(torch.unique(groups[parts.test]))
        shuffled = _shuffled(y, groups, seed)
        guessed = _predict(kind, standard, shuffled, parts, len(names), settings, seed)
        control.append(float((guessed == shuffled[parts.test]).float().mean()))
    return ProbeResult(
        kind=kind,
        top1=tuple(top1),
        balanced=tuple(balanced),
        control=tuple(control),
        chance=1.0 / len(names),
        majority=mean(majorities),
        classes=len(names),
        tested=tested,
    )


def checked(features: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return float32 features and the utterance of each row, on the CPU.

    Raises:
        DataError: shapes do not fit, or a feature is not finite.
    """
    x = features.detach().cpu().float()
    if x.ndim != 2:
        raise DataError(f"features must be (N, D), and are {tuple(x.shape)}")
    broken = int((~torch.isfinite(x)).any(1).sum())
    if broken:
        raise DataError(f"{broken} of {len(x)} rows of features are not finite")
    rows = torch.arange(len(x)) if groups is None else groups.cpu()
    if rows.shape != (len(x),):
        raise DataError(f"{len(x)} rows of features have groups of shape {tuple(rows.shape)}")
    return x, rows


def _predict(
    kind: Kind, x: Tensor, y: Tensor, parts: Split, classes: int, fitting: Fitting, seed: int
) -> Tensor:
    """Return the classes that a fresh probe gives the test rows."""
    probe = fit(
        kind,
        train=(x[parts.train], y[parts.train]),
        stop=(x[parts.stop], y[parts.stop]),
        outputs=classes,
        loss=F.cross_entropy,
        fitting=fitting,
        seed=seed,
    )
    with torch.no_grad():
        predicted: Tensor = probe(x[parts.test]).argmax(1)
    return predicted


def _shuffled(labels: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Exchange labels between utterances; the rows of one keep a common label."""
    names, rows = torch.unique(groups, return_inverse=True)
    of_group = torch.empty(len(names), dtype=labels.dtype)
    of_group[rows] = labels
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    return of_group[torch.randperm(len(names), generator=generator)][rows]
