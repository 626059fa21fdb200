"""Micro-batches built in worker processes, in order, with failures that end instead of hang."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from core.contracts import Batch
from core.errors import TrainingError

Request = TypeVar("Request")

_DIED = "a data worker died, usually for want of memory; use fewer workers or smaller batches"
_RAISED_BY_A_WORKER = "in DataLoader worker process"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How batches are made ahead of their use.

    Args:
        workers: processes; 0 to work in the process that asks.
        prefetch: batches that each worker keeps ready.
        timeout: seconds to wait for a batch before a worker counts as hung.
        pin_memory: put batches into page-locked memory, for copies to a GPU.
    """

    workers: int = 0
    prefetch: int = 4
    timeout: float = 300.0
    pin_memory: bool = False


class Feed(Sampler[Request]):
    """What to load next, set anew before each pass; workers are told only the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


class Requests(Dataset[Batch], Generic[Request]):
    """Answers each request with one batch, so the number of workers cannot change a batch."""

    def __init__(self, load: Callable[[Request], Batch]) -> None:
        self._load = load

    def __getitem__(self, request: Request) -> Batch:
        return self._load(request)


def _leave_signals_to_the_parent(_: int) -> None:
    """Ignore what a launcher sends to the whole process group: the parent ends its workers.

    A worker that died of the same SIGTERM would take the checkpoint with it that the parent is
    about to save.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@functools.cache
def _end_workers_at_exit() -> None:
    """Let no worker outlive the command.

    A loader ends its workers when it is collected, but one that the traceback of an error holds is
    still there as Python exits. What multiprocessing does then is to send SIGTERM, which workers
    ignore, and to wait for them: without end, with the run's lock held.
    """
    # Handlers run in reverse order: this one comes before that of multiprocessing.
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def make_loader(
    dataset: Dataset[Any] | IterableDataset[Any],
    options: LoaderOptions,
    *,
    sampler: Sampler[Any] | None = None,
    persistent: bool = False,
) -> DataLoader[Any]:
    """Return a loader of whole batches that leaves every global random generator alone."""
    parallel = options.workers > 0
    if parallel:
        _end_workers_at_exit()
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=options.workers,
        prefetch_factor=options.prefetch if parallel else None,
        timeout=options.timeout if parallel else 0,
        persistent_workers=persistent and parallel,
        pin_memory=options.pin_memory,
        collate_fn=_whole,
        worker_init_fn=_leave_signals_to_the_parent if parallel else None,
        # The loader draws a seed for its workers; without a generator it would draw from torch's.
        generator=torch.Generator().manual_seed(0),
    )


def guarded(batches: Iterable[Any], *, workers: int) -> Iterator[Any]:
    """Yield from a loader; a worker that was killed or hangs becomes a TrainingError."""
    if workers == 0:
        yield from batches
        return
    try:
        yield from batches
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        # A batch in shared memory is handed over by its worker, who may be gone by then.
        if _RAISED_BY_A_WORKER in str(error):
            raise
        raise TrainingError(f"{_DIED}: {error!r}") from error
    except RuntimeError as error:
        if "DataLoader timed out" in str(error):
            raise TrainingError(
                f"a data worker hangs: {error}. Storage may be slow; see the option 'timeout'"
            ) from error
        if "DataLoader worker" in str(error) and _RAISED_BY_A_WORKER not in str(error):
            raise TrainingError(f"{_DIED}: {error}") from error
        raise


def _whole(batch: Any) -> Any:  # noqa: ANN401
    return batch
