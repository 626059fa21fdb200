"""What the emotion vector of a text-to-speech model tells of speaker, emotion and prosody."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from components.probes.comparison import Difference, compare, differences
from components.probes.picture import probe_image
from components.probes.prosody import LEVELS, NAMES, prosody, relative_to
from components.probes.report import ProbeReport, probe_features
from core.contracts import UNMAPPED, MetricSum, ProbeFindings, SpeechPairBatch
from core.errors import DataError
from core.train.window import Window

FEWEST = 5
"""Utterances of a class that a probe can tell: three to learn from, one to stop by, one to test."""

_FEWEST_ROWS = 20
_USE = ("loss", "text_loss", "semantic_loss", "emotion_use")


class EmotionModel(Protocol):
    """A frozen model with an emotion vector."""

    def emotion(self, batch: SpeechPairBatch) -> Tensor:
        """Return (B, D) vectors."""

    def evaluate(self, batch: SpeechPairBatch) -> dict[str, MetricSum]:
        """Return ``loss`` and, as ``emotion_use``, what it rises by when vectors are shuffled."""


@dataclass
class _Model:
    """What one model made of the rows."""

    model: EmotionModel
    vectors: list[Tensor] = field(default_factory=list)
    sums: Window = field(default_factory=Window)

    def add(self, batch: SpeechPairBatch, rows: Tensor, suffix: str) -> None:
        self.vectors.append(self.model.emotion(batch)[rows].float().cpu())
        for name, metric in self.model.evaluate(batch).items():
            if name in _USE:
                self.sums.add(name + suffix, float(metric.total), float(metric.count))


class EmotionProbes:
    """Collects emotion vectors of different utterances, then probes them (a ``ProbeSuite``).

    Args:
        models: one, or two: the one in question and its twin, which get the same rows.
        mapped: whether the run has a speaker mapping. Then speakers without a class are an open
            set: they are verified, not classified. Without one, all are classified.
    """

    def __init__(self, models: Sequence[EmotionModel], *, mapped: bool) -> None:
        self._models = [_Model(model) for model in models]
        self._mapped = mapped
        self._seen: set[tuple[str, str]] = set()
        self._repeated = 0
        self._speakers: list[str] = []
        self._emotions: list[str] = []
        self._open: list[bool] = []
        self._prosody: list[Tensor] = []

    @torch.no_grad()
    def add(self, batch: SpeechPairBatch) -> None:
        """Collect the utterances of a batch that did not come before."""
        kept = []
        for row, key in enumerate(zip(batch.speaker_names, batch.utterances, strict=True)):
            if key not in self._seen:
                self._seen.add(key)
                kept.append(row)
        self._repeated += len(batch) - len(kept)
        if not kept:
            return
        unmapped = (batch.speakers == UNMAPPED).tolist()
        suffix = "_unseen" if self._mapped and all(unmapped) else ""
        rows = torch.tensor(kept, device=batch.speakers.device)
        for each in self._models:
            each.add(batch, rows, suffix)
        self._speakers += [batch.speaker_names[row] for row in kept]
        self._emotions += [batch.emotions[row] for row in kept]
        self._open += [self._mapped and unmapped[row] for row in kept]
        self._prosody.append(prosody(batch)[kept])

    def findings(self, *, names: Sequence[str], seeds: Sequence[int]) -> ProbeFindings:
        """Train the probes. Raises DataError if there is nothing that they could tell."""
        if len(self._speakers) < _FEWEST_ROWS:
            raise DataError(
                f"probes need at least {_FEWEST_ROWS} different utterances, and there are "
                f"{len(self._speakers)}; give more or larger splits"
            )
        notes = [self._counted()]
        classes = self._classes(notes)
        numbers = self._numbers(notes)
        unseen = self._unseen(notes)
        reports = []
        for name, each in zip(names, self._models, strict=True):
            vectors = torch.cat(each.vectors)
            reports.append(
                probe_features(
                    vectors,
                    name=name,
                    classes=classes,
                    numbers=numbers,
                    unseen=(vectors[unseen[0]], unseen[1]) if unseen is not None else None,
                    extra=each.sums.averages(),
                    seeds=seeds,
                )
            )
        return _findings(reports, notes, utterances=len(self._speakers))

    def _counted(self) -> str:
        speakers = len(set(self._speakers))
        line = f"{len(self._speakers):,} different utterances of {speakers:,} speakers"
        return line + (f"; {self._repeated:,} rows repeat one" if self._repeated else "")

    def _classes(self, notes: list[str]) -> dict[str, Tensor]:
        known = [
            "" if stranger else speaker
            for speaker, stranger in zip(self._speakers, self._open, strict=True)
        ]
        found = {}
        for name, labels in (("speaker", known), ("emotion", self._emotions)):
            values, left_out = _classes(labels)
            told = int(values.max()) + 1 if len(values) else 0
            if left_out:
                notes.append(
                    f"{name}: left out, having fewer than {FEWEST} utterances: {len(left_out):,} "
                    f"classes of {sum(left_out.values()):,} utterances"
                )
            if told >= 2 and int((values >= 0).sum()) >= _FEWEST_ROWS:
                found[name] = values
            elif any(labels):
                notes.append(f"{name}: no probe: too few classes or utterances are left")
            elif name == "emotion":
                notes.append("emotion: no probe: no row has a label (target_emotion)")
            else:
                notes.append("speaker: no probe: the mapping has none of these speakers")
        return found

    def _numbers(self, notes: list[str]) -> dict[str, dict[str, Tensor]]:
        values = torch.cat(self._prosody)
        places = {name: place for place, name in enumerate(dict.fromkeys(self._speakers))}
        speakers = torch.tensor([places[name] for name in self._speakers])
        targets = {}
        for column, name in enumerate(NAMES):
            known = torch.isfinite(values[:, column])
            if int(known.sum()) < max(_FEWEST_ROWS, len(values) // 2):
                notes.append(
                    f"prosody: {name} is known of {int(known.sum()):,} utterances only: left out"
                )
                continue
            kept = values[:, column]
            targets[name] = relative_to(kept, speakers) if name in LEVELS else kept
        varied = {n: v for n, v in targets.items() if float(v[v.isfinite()].std()) > 1e-6}
        return {"prosody": varied} if varied else {}

    def _unseen(self, notes: list[str]) -> tuple[Tensor, Tensor] | None:
        """Return rows and speakers of the open set; None if no pairs can be made of it."""
        rows = [row for row, stranger in enumerate(self._open) if stranger]
        counts = Counter(self._speakers[row] for row in rows)
        if not rows:
            return None
        if len(counts) < 2 or max(counts.values()) < 2:
            notes.append("open set: no verification: it needs two speakers and two utterances")
            return None
        places = {name: place for place, name in enumerate(counts)}
        speakers = torch.tensor([places[self._speakers[row]] for row in rows])
        return torch.tensor(rows), speakers


def _classes(labels: Iterable[str]) -> tuple[Tensor, dict[str, int]]:
    """Return (N,) numbers of the labels, -1 for empty and rare ones, and the rare with counts."""
    labels = list(labels)
    counts = Counter(label for label in labels if label)
    kept = sorted(name for name, count in counts.items() if count >= FEWEST)
    places = {name: place for place, name in enumerate(kept)}
    rare = {name: count for name, count in counts.items() if count < FEWEST}
    return torch.tensor([places.get(label, -1) for label in labels]), rare


def _findings(reports: list[ProbeReport], notes: list[str], *, utterances: int) -> ProbeFindings:
    """Set the reports out, the twin's first: it is what the other is compared with."""
    run = reports[0]
    lines = [*notes, ""]
    figures: dict[str, Any] = {"utterances": utterances, "notes": notes, "run": run.as_dict()}
    metrics: Mapping[str, float] = run.metrics()
    for report in reversed(reports):
        lines += [*report.lines(), ""]
    if len(reports) > 1:
        twin = reports[1]
        found = differences(twin, run)
        lines += [f"{run.name} beside {twin.name}", *compare(twin, run)]
        figures |= {"twin": twin.as_dict()}
        figures["comparison"] = {each.key: each.as_dict() for each in found}
        metrics = {**metrics, **_removed(found)}
    return ProbeFindings(
        lines=lines,
        figures=figures,
        metrics=metrics,
        image=probe_image(
            list(reversed(reports)), title=f"what the emotion vector of {run.name} tells"
        ),
    )


def _removed(found: list[Difference]) -> dict[str, float]:
    """Return the shares of accuracy that are gone, as metrics."""
    return {
        f"probe/{each.key}_removed": each.removed
        for each in found
        if each.removed is not None and math.isfinite(each.removed)
    }
