"""Training batches of a source without random access: a position is reached again by replay."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from typing import Any, TypeAlias

import numpy as np
from lhotse.cut import Cut
from torch.utils.data import IterableDataset, get_worker_info

from core.contracts import Batch
from core.data.audio import AudioError
from core.data.collate import Collate, Key
from core.data.loading import LoaderOptions, guarded, make_loader
from core.data.plan import PlanOptions, occupied_seconds, plan_batches, plan_evaluation
from core.data.position import check_kind, check_same_data
from core.data.source import StreamSource
from core.errors import DataError

_log = logging.getLogger(__name__)

Group: TypeAlias = list[Cut | AudioError]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is cut into batches.

    Args:
        plan: limits of a batch.
        buffer: utterances that each worker holds to sort and shuffle.
        min_seconds: shortest utterance.
        max_seconds: longest utterance; None for no limit, which is right for evaluation only.
        least_seconds: length that a shorter utterance takes up in a batch.
        chunk_seconds: lengths count as the whole chunks that they fill; 0 as they are.
    """

    plan: PlanOptions
    buffer: int
    min_seconds: float
    max_seconds: float | None
    least_seconds: float = 0.0
    chunk_seconds: float = 0.0


class ReplayStream:
    """Endless batches of one rank over a stream (a :class:`BatchStream`).

    Each worker of each rank reads its own part of the corpus, again and again in another order, and
    batch ``j`` comes from part ``j`` modulo their number. Parts differ in length, so ranks could
    not agree on where an epoch ends: there is none, and training goes by steps. To resume, workers
    read again what was read before, without decoding it.

    Args:
        source: opened.
        collator: makes batches.
        options: buffer, filters and limits.
        name: of the source, for messages.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
        loading: workers and what they prefetch.
    """

    def __init__(
        self,
        *,
        source: StreamSource,
        collator: Collate,
        options: StreamOptions,
        name: str,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        loading: LoaderOptions,
    ) -> None:
        self.epoch = 0
        self._name = name
        self._done = 0
        self._lane = _Lane(
            source=source,
            collator=collator,
            options=options,
            rank=rank,
            world_size=world_size,
            seed=seed,
        )
        self._layout = {"world_size": world_size, "readers": max(1, loading.workers)}
        self._identity = {
            "fingerprint": source.fingerprint,
            "seed": seed,
            "plan": asdict(options.plan)
            | {
                "buffer": options.buffer,
                "min_seconds": options.min_seconds,
                "max_seconds": options.max_seconds,
                "least_seconds": options.least_seconds,
                "chunk_seconds": options.chunk_seconds,
            },
        }
        self._loading = loading

    @property
    def steps_per_epoch(self) -> None:
        """Always None: the stream is endless."""
        return

    def __iter__(self) -> Iterator[Batch]:
        self._lane.done = self._done
        # Replaying what was read may take long, which is no sign of a hung worker.
        loading = replace(self._loading, timeout=0.0) if self._done else self._loading
        loader = make_loader(self._lane, loading)
        for batch in guarded(loader, workers=self._loading.workers):
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches that each rank has had."""
        return {"kind": "replay", "epoch": 0, "batch": self._done, **self._layout, **self._identity}

    def load_state_dict(self, state: Mapping[str, Any], *, allow_data_change: bool = False) -> None:
        """Go to a position; the next iteration replays what lies before it.

        Args:
            state: what :meth:`state_dict` returned.
            allow_data_change: accept other data or another number of readers, and begin anew.

        Raises:
            DataError: if the state is of other data, ranks or workers and that was not allowed.
        """
        check_kind(state, "replay")
        same = check_same_data(state, self._identity, self._name, allow=allow_data_change)
        saved = {key: state[key] for key in self._layout}
        if saved != self._layout and not allow_data_change:
            raise DataError(
                f"{self._name} is a stream, which resumes only with as many ranks and workers as "
                f"before: {_describe(saved)} then, {_describe(self._layout)} now"
            )
        if same and saved == self._layout:
            self._done = int(state["batch"])
            return
        self._done = 0
        _log.warning("%s: the data changed; the stream begins again", self._name)


def evaluation_batches(
    *,
    source: StreamSource,
    collator: Collate,
    options: StreamOptions,
    rank: int,
    world_size: int,
) -> Iterator[Batch]:
    """Yield this rank's part of a stream once, in the order in which it is stored."""
    cuts = source.cuts(epoch=0, shard=rank, shards=world_size, seed=None)
    for number, group in enumerate(_groups(cuts, options, rng=None)):
        yield collator(group, (0, rank, world_size, number))


class _Lane(IterableDataset[Batch]):
    """What a worker reads; ``done`` batches of the rank are passed over, undecoded."""

    def __init__(
        self,
        *,
        source: StreamSource,
        collator: Collate,
        options: StreamOptions,
        rank: int,
        world_size: int,
        seed: int,
    ) -> None:
        self.done = 0
        self._source = source
        self._collator = collator
        self._options = options
        self._rank = rank
        self._world_size = world_size
        self._seed = seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # A loader asks worker 0 first, but batch `done` is due from part `done % workers`.
        number = (first + self.done) % workers
        mine = len(range(number, self.done, workers))
        shard, shards = self._rank * workers + number, self._world_size * workers
        for key, group in islice(self._endless(shard, shards), mine, None):
            yield self._collator(group, key)

    def _endless(self, shard: int, shards: int) -> Iterator[tuple[Key, Group]]:
        for epoch in count():
            cuts = self._source.cuts(epoch=epoch, shard=shard, shards=shards, seed=self._seed)
            rng = np.random.default_rng([self._seed, epoch, shard])
            number = -1
            for number, group in enumerate(_groups(cuts, self._options, rng=rng)):
                yield (epoch, shard, shards, number), group
            if number < 0:
                raise DataError(
                    f"{self._source.location}: part {shard + 1} of {shards} has no utterance to "
                    "train on; use fewer ranks or workers, or wider filters"
                )


def _groups(
    cuts: Iterator[Cut | AudioError],
    options: StreamOptions,
    *,
    rng: np.random.Generator | None,
) -> Iterator[Group]:
    """Cut a stream into batches, one buffer of similar utterances at a time."""
    unreadable: Group = []
    left_out = 0
    while chunk := list(islice(cuts, options.buffer)):
        unreadable += [item for item in chunk if isinstance(item, AudioError)]
        usable = [item for item in chunk if not isinstance(item, AudioError)]
        kept = [cut for cut in usable if _fits(cut.duration, options)]
        left_out += len(usable) - len(kept)
        durations = occupied_seconds(
            np.array([cut.duration for cut in kept], dtype=np.float32),
            least=options.least_seconds,
            chunk=options.chunk_seconds,
        )
        if rng is None:
            batches = plan_evaluation(durations, options.plan)
        else:
            batches = plan_batches(durations, options.plan, rng=rng)
        for batch in batches:
            yield [*(kept[i] for i in batch.tolist()), *unreadable]
            unreadable = []
    if unreadable:
        yield unreadable
    if left_out:
        _log.warning(
            "%d utterances outside %g to %s s were left out of a pass",
            left_out,
            options.min_seconds,
            options.max_seconds,
        )


def _fits(duration: float, options: StreamOptions) -> bool:
    return options.min_seconds <= duration and (
        options.max_seconds is None or duration <= options.max_seconds
    )


def _describe(layout: Mapping[str, Any]) -> str:
    return f"{layout['world_size']} ranks of {layout['readers']} readers"
