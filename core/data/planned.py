"""A split with random access: planned batches, exact resume."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from core.contracts import Batch, RunContext
from core.data.collate import Collate
from core.data.corpus import Corpus, CorpusOptions
from core.data.loading import Feed, Requests, guarded, make_loader
from core.data.plan import Indices, occupied_seconds, padding_share, plan_epoch, plan_evaluation
from core.data.source import Noted, Seconds, Source
from core.data.speech import SpeechLoader
from core.data.stream import FixedRowsStream, PlannedStream, Request
from core.errors import DataError

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


class PlannedCorpus(Corpus):
    """A source with random access.

    Args:
        name: of the split.
        uri: of the source.
        source: opened.
        options: filters, plan and workers.
        context: of the run.

    Raises:
        DataError: if the filters leave nothing.
    """

    def __init__(
        self,
        *,
        name: str,
        uri: str,
        source: Source,
        options: CorpusOptions,
        context: RunContext,
    ) -> None:
        super().__init__(name=name, uri=uri, options=options, context=context)
        self._source = source
        self._drops = _drops(source.durations, options)
        dropped = np.zeros(len(source), dtype=bool)
        for _, mask in self._drops:
            dropped |= mask
        self._rows: Indices = np.flatnonzero(~dropped)
        if not self._rows.size:
            raise DataError(f"{name} ({uri}): no utterance is left; " + "; ".join(self._dropped()))

    @property
    def source(self) -> Source:
        """What is read."""
        return self._source

    @cached_property
    def durations(self) -> Seconds:
        """(N,) seconds of the utterances that are used."""
        return self._source.durations[self._rows]

    @property
    def _occupied(self) -> Seconds:
        """(N,) seconds that they take up in a batch."""
        least, chunk = self.options.least_seconds, self.options.chunk_seconds
        return occupied_seconds(self.durations, least=least, chunk=chunk)

    def train_stream(self, collator: Collate) -> PlannedStream:
        """Return the training batches of this rank."""
        kind = FixedRowsStream if self.options.fixed_rows else PlannedStream
        return kind(
            durations=self._occupied,
            load=SpeechLoader(source=self._source, rows=self._rows, collator=collator),
            options=self.options.plan,
            name=self.uri,
            fingerprint=self._source.fingerprint,
            filters={
                "min_seconds": self.options.min_seconds,
                "max_seconds": self.options.max_seconds,
                "least_seconds": self.options.least_seconds,
                "chunk_seconds": self.options.chunk_seconds,
            },
            seed=self.context.seed,
            rank=self.context.rank,
            world_size=self.context.world_size,
            loading=self.options.loading,
        )

    def eval_batches(self, collator: Collate) -> Iterable[Batch]:
        """Return every ``world_size``-th batch of the split, longest utterances first."""
        plan = plan_evaluation(self._occupied, self.options.plan)
        feed: Feed[Request] = Feed()
        feed.requests = [
            (0, indices) for indices in plan[self.context.rank :: self.context.world_size]
        ]
        load = SpeechLoader(source=self._source, rows=self._rows, collator=collator)
        loader = make_loader(Requests(load), self.options.loading, sampler=feed)
        return guarded(loader, workers=self.options.loading.workers)

    def summary(self) -> list[str]:
        """Return utterances, hours, what was dropped and, in training, the padding."""
        lines = [f"{self.name}: {self.uri}: {_amount(self.durations)}"]
        if isinstance(self._source, Noted):
            lines += [f"{self.name}: {note}" for note in self._source.notes()]
        lines += [f"{self.name}: left out {drop}" for drop in self._dropped()]
        if self.options.training:
            plan = plan_epoch(self._occupied, self.options.plan, seed=self.context.seed, epoch=0)
            size = f"{self.options.plan.batch_seconds:g} s"
            if self.options.fixed_rows:
                size = f"{self.options.plan.max_utterances} utterances"
            lines.append(
                f"{self.name}: {len(plan)} batches of up to {size}, {self._padding(plan):.1%} "
                "padding in the first epoch; resume is exact and immediate"
            )
            lost = len(self.durations) - sum(batch.size for batch in plan)
            if lost:
                lines.append(f"{self.name}: drop_last leaves out {lost} utterances an epoch")
        return lines

    def _padding(self, plan: list[Indices]) -> float:
        """Return the share of a plan's seconds that is padding."""
        if not self.options.chunk_seconds:
            return padding_share(plan, self._occupied)
        planned = np.concatenate(plan)
        real, whole = (seconds[planned].sum() for seconds in (self.durations, self._occupied))
        return 1.0 - float(real) / float(whole)

    def _dropped(self) -> list[str]:
        durations = self._source.durations
        return [f"{_amount(durations[mask])} {why}" for why, mask in self._drops if mask.any()]


def _drops(durations: Seconds, options: CorpusOptions) -> list[tuple[str, Mask]]:
    """Return disjoint masks of what filters leave out, with the reasons."""
    unknown = np.isnan(durations)
    short = durations < options.min_seconds
    drops = [
        ("whose header cannot be read", unknown),
        (f"shorter than min_seconds={options.min_seconds:g}", short),
    ]
    if options.training:
        long = durations > options.max_seconds
        unfit = durations > options.plan.batch_seconds
        drops += [
            (f"longer than max_seconds={options.max_seconds:g}", long & ~short),
            (f"longer than batch_seconds={options.plan.batch_seconds:g}", unfit & ~long & ~short),
        ]
    return drops


def _amount(durations: Seconds) -> str:
    noun = "utterance" if len(durations) == 1 else "utterances"
    hours = float(np.nansum(durations, dtype=np.float64)) / 3600
    return f"{len(durations):,} {noun}, {hours:.2f} h"
