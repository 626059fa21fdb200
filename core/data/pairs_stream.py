"""Training batches of a pair manifest, with a position that counts rows."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from torch.utils.data import Sampler

from core.contracts import Batch
from core.data.loading import LoaderOptions, Requests, guarded, make_loader
from core.data.npy import Indices
from core.data.pairs_index import PairIndex
from core.data.pairs_order import OrderOptions, Place, block_order
from core.data.position import check_kind, check_same_data
from core.errors import DataError

_log = logging.getLogger(__name__)

Request: TypeAlias = tuple[int, Indices]
"""Epoch and rows of one micro-batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Which rows can be had.

    Args:
        rows: that can be trained on now; they lead the manifest.
        total: of the manifest.
        refill: how to get more, for the message that ends a run which has used ``rows`` up.
    """

    rows: int
    total: int
    refill: str


class _Ahead(Sampler[Request]):
    """Hands over requests as the loader asks for them: an epoch may have hundreds of thousands."""

    def __init__(self) -> None:
        self.requests: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.requests


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which rows make up the micro-batches of a rank.

    Does not refer to the stream, which would refer to itself then and outlive its last use, and its
    workers with it.
    """

    index: PairIndex
    rows: int
    order: OrderOptions
    batch_size: int
    seed: int
    rank: int
    world_size: int

    def requests(self, epoch: int, place: Place, ends: deque[Place]) -> Iterator[Request]:
        """Yield this rank's share of the rest of an epoch; append to ``ends`` where each ends."""
        wanted = self.batch_size * self.world_size
        pieces: list[Indices] = []
        held = 0
        order: Indices | None = None
        while (place := place.within(self.rows, self.order.block)).row < self.rows:
            if order is None or not place.taken:
                order = self._block(epoch, place)
            piece = order[place.taken : place.taken + wanted - held]
            pieces.append(piece)
            held += piece.size
            place = place.after(piece.size)
            if held == wanted or place.row >= self.rows:
                ends.append(place)
                yield epoch, self._share(np.concatenate(pieces))
                pieces, held = [], 0

    def _block(self, epoch: int, place: Place) -> Indices:
        return block_order(
            self.index.code_lengths,
            self.index.speakers,
            self.order,
            seed=self.seed,
            epoch=epoch,
            place=place,
        )

    def _share(self, rows: Indices) -> Indices:
        """Return this rank's rows of a group; the last group is shared out evenly."""
        if rows.size == self.batch_size * self.world_size:
            return rows[self.rank * self.batch_size :][: self.batch_size]
        return np.array_split(rows, self.world_size)[self.rank]


class PairStream:
    """Batches of one rank over the leading rows of a manifest (an exhaustible ``BatchStream``).

    The position counts rows, so a run may go on with another batch size, another number of ranks,
    or more rows. Rank ``r`` of ``W`` takes micro-batches ``r``, ``W + r`` and so on. An epoch is
    the whole manifest: where only its first rows can be had, the stream ends there, says so in
    :attr:`exhausted`, and goes on behind them once there are more.

    Args:
        index: of the manifest.
        supply: which rows can be had.
        load: makes a batch of an epoch and rows; runs in the workers, and must depend on nothing
            else.
        order: how rows are shuffled.
        batch_size: rows of a micro-batch.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
        loading: workers and what they prefetch.
    """

    def __init__(
        self,
        *,
        index: PairIndex,
        supply: Supply,
        load: Callable[[Request], Batch],
        order: OrderOptions,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        loading: LoaderOptions,
    ) -> None:
        self.epoch = 0
        self._index = index
        self._supply = supply
        self._plan = _Plan(
            index=index,
            rows=supply.rows,
            order=order,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self._place = Place()
        self._digest = _Digest(index)
        self._ahead = _Ahead()
        self._loader = make_loader(Requests(load), loading, sampler=self._ahead, persistent=True)

    @property
    def rows_per_batch(self) -> int:
        """Rows of a micro-batch, by which a schedule knows how many rows a step has."""
        return self._plan.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches of this rank in the whole manifest, of which not all may be had yet."""
        return -(-self._supply.total // (self._plan.batch_size * self._plan.world_size))

    @property
    def exhausted(self) -> str | None:
        """What was used up and how to get more; None while there are rows."""
        supply = self._supply
        if self._place.row < supply.rows or supply.rows >= supply.total:
            return None
        return (
            f"{self._index.path}: all {supply.rows:,} rows that can be used are consumed, of "
            f"{supply.total:,} in the manifest (epoch {self.epoch}).\n{supply.refill}\nThen the "
            f"same command goes on at row {supply.rows + 1:,}."
        )

    def __iter__(self) -> Iterator[Batch]:
        if self._place.row < self._supply.rows:
            ends: deque[Place] = deque()
            self._ahead.requests = self._plan.requests(self.epoch, self._place, ends)
            for batch in guarded(self._loader, workers=self._loader.num_workers):
                self._go_to(ends.popleft())
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last yielded batch."""
        place = self._place
        return {
            "kind": "pairs",
            "epoch": self.epoch,
            "row": place.row,
            "block": [place.start, place.end],
            **self._identity(place.end),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, allow_data_change: bool = False) -> None:
        """Go to a position.

        Args:
            state: what :meth:`state_dict` returned.
            allow_data_change: accept that consumed rows, seed or order are others. The position
                means nothing then, so the epoch of the state begins again.

        Raises:
            DataError: the consumed rows are not those of the state, and that was not allowed.
        """
        check_kind(state, "pairs")
        self.epoch = int(state["epoch"])
        start, end = (int(bound) for bound in state["block"])
        place = Place(start=start, end=end, taken=int(state["row"]) - start)
        if self._same(state, place, allow=allow_data_change):
            self._go_to(place)
            return
        self._place = Place()
        _log.warning("%s: the data changed; epoch %d begins again", self._index.path, self.epoch)

    def _go_to(self, place: Place) -> None:
        if place.row < self._supply.total:
            self._place = place
        else:
            self.epoch, self._place = self.epoch + 1, Place()

    def _same(self, state: Mapping[str, Any], place: Place, *, allow: bool) -> bool:
        if place.end > self._supply.rows:
            if allow:
                return False
            raise DataError(
                f"{self._index.path}: the checkpoint stands at row {place.row:,} in a block that "
                f"ends at row {place.end:,}, and now only the first {self._supply.rows:,} rows can "
                "be used: mel was removed or the order changed, or data.limit is lower. Restore "
                "it, or accept the change with --allow-data-change, which begins the epoch again"
            )
        name = f"{self._index.path}, rows 1 to {place.end:,}"
        return check_same_data(state, self._identity(place.end), name, allow=allow)

    def _identity(self, rows: int) -> dict[str, Any]:
        """Return what the consumed rows and the rows of the block in progress depend on."""
        return {
            "fingerprint": self._digest(rows),
            "seed": self._plan.seed,
            "plan": asdict(self._plan.order),
        }


class _Digest:
    """Digests of leading rows; going on from the last one asked for costs only the new rows."""

    def __init__(self, index: PairIndex) -> None:
        self._index = index
        self._hash = hashlib.sha256()
        self._rows = 0

    def __call__(self, rows: int) -> str:
        """Return the digest of the first ``rows`` lines, as ``PairIndex.digest`` does."""
        if rows < self._rows:
            self._hash, self._rows = hashlib.sha256(), 0
        self._hash.update(np.ascontiguousarray(self._index.marks[self._rows : rows]).data)
        self._rows = rows
        return self._hash.hexdigest()
