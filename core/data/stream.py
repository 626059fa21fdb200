"""Training batches by plan: an exact, constant-time position that no number of workers changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from core.contracts import Batch
from core.data.loading import Feed, LoaderOptions, Requests, guarded, make_loader
from core.data.plan import Indices, PlanOptions, plan_epoch, shard_epoch
from core.data.position import check_kind, check_same_data, first_batch
from core.data.source import Seconds

_log = logging.getLogger(__name__)

Request: TypeAlias = tuple[int, Indices]
"""Epoch and utterances of one micro-batch."""


class PlannedStream:
    """Batches of one rank over utterances with random access (a :class:`BatchStream`).

    The position counts micro-batches of all ranks together, so a run can go on with another number
    of ranks wherever that number divides the position.

    Args:
        durations: (N,) seconds of the utterances.
        load: makes a batch of an epoch and utterance numbers; runs in the workers, and must depend
            on nothing else.
        options: how batches are cut.
        name: of the manifest, for messages.
        fingerprint: digest of the manifest.
        filters: what chose the utterances from the manifest; other values mean other data.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
        loading: workers and what they prefetch.
    """

    def __init__(
        self,
        *,
        durations: Seconds,
        load: Callable[[Request], Batch],
        options: PlanOptions,
        name: str,
        fingerprint: str,
        filters: Mapping[str, float | None],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        loading: LoaderOptions,
    ) -> None:
        self.epoch = 0
        self._durations = durations
        self._options = options
        self._name = name
        self._rank = rank
        self._world_size = world_size
        self._seed = seed
        self._done = 0
        self._planned: tuple[int, list[Indices]] | None = None
        self._identity = {
            "fingerprint": fingerprint,
            "seed": seed,
            "plan": asdict(options) | dict(filters),
        }
        self._feed: Feed[Request] = Feed()
        self._loader = make_loader(Requests(load), loading, sampler=self._feed, persistent=True)

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches of this rank in the current epoch; jitter makes epochs differ by a few."""
        return len(self._plan(self.epoch))

    def __iter__(self) -> Iterator[Batch]:
        epoch, plan = self.epoch, self._plan(self.epoch)
        self._feed.requests = [(epoch, indices) for indices in plan[self._done :]]
        if not self._feed.requests:
            self.epoch, self._done = epoch + 1, 0
            return
        for batch in guarded(self._loader, workers=self._loader.num_workers):
            self._done += 1
            if self._done == len(plan):
                self.epoch, self._done = epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last yielded batch."""
        return {
            "kind": "planned",
            "epoch": self.epoch,
            "batch": self._done * self._world_size,
            "world_size": self._world_size,
            **self._identity,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, allow_data_change: bool = False) -> None:
        """Go to a position.

        Args:
            state: what :meth:`state_dict` returned.
            allow_data_change: accept another manifest, seed or plan. The position means nothing
                in another plan, so the epoch of the state begins again.

        Raises:
            DataError: if the state is of other data and that was not allowed, or if the number of
                ranks does not divide the position.
        """
        check_kind(state, "planned")
        if not check_same_data(state, self._identity, self._name, allow=allow_data_change):
            self.epoch, self._done = int(state["epoch"]), 0
            _log.warning("%s: the data changed; epoch %d begins again", self._name, self.epoch)
            return
        self._done = first_batch(state, world_size=self._world_size)
        self.epoch = int(state["epoch"])

    def _plan(self, epoch: int) -> list[Indices]:
        if self._planned is None or self._planned[0] != epoch:
            batches = plan_epoch(self._durations, self._options, seed=self._seed, epoch=epoch)
            mine, lost = shard_epoch(
                batches,
                self._durations,
                rank=self._rank,
                world_size=self._world_size,
                drop_last=self._options.drop_last,
            )
            if lost and not self._options.drop_last:
                _log.warning(
                    "epoch %d leaves out %d of %d utterances: fewer than the %d ranks",
                    epoch,
                    lost,
                    len(self._durations),
                    self._world_size,
                )
            self._planned = (epoch, mine)
        return self._planned[1]


class FixedRowsStream(PlannedStream):
    """A planned stream whose plan has room for as many utterances in every batch."""

    @property
    def rows_per_batch(self) -> int:
        """Utterances of a micro-batch; one batch of an epoch may have less."""
        rows = self._options.max_utterances
        assert rows is not None  # fixed_rows says so
        return rows
