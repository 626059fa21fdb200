from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.data.loading import Feed, LoaderOptions, Requests, guarded, make_loader
from core.errors import DataError, TrainingError

ROOT = Path(__file__).resolve().parents[3]


def double(request: int) -> Any:
    if request < 0:
        raise FileNotFoundError("gone")
    if request == 99:
        raise DataError("bad manifest")
    return torch.full((2,), 2 * request)


def loaded(requests: list[int], workers: int) -> list[int]:
    feed: Feed[int] = Feed()
    loader = make_loader(Requests(double), LoaderOptions(workers=workers, timeout=60), sampler=feed)
    feed.requests = requests
    return [int(batch[0]) for batch in guarded(loader, workers=workers)]


@pytest.mark.parametrize("workers", [0, 2])
def test_answers_come_in_the_order_of_the_requests(workers: int) -> None:
    assert loaded([3, 1, 2, 5, 4], workers) == [6, 2, 4, 10, 8]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_load_keeps_its_type(workers: int) -> None:
    with pytest.raises(DataError, match="bad manifest"):
        loaded([1, 99], workers)
    with pytest.raises(FileNotFoundError, match="gone"):
        loaded([1, -1], workers)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DataLoader timed out after 3 seconds"), "a data worker hangs"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "a data worker died"),
        (ConnectionResetError(104, "Connection reset by peer"), "a data worker died"),
        (EOFError(), "a data worker died"),
    ],
)
def test_a_lost_worker_is_a_training_error(error: Exception, message: str) -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise error

    with pytest.raises(TrainingError, match=message):
        list(guarded(batches(), workers=1))


def test_other_errors_pass() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(guarded(batches(), workers=1))


def test_a_command_ends_whose_loader_is_still_held() -> None:
    """As the traceback of an error holds it; workers ignore the SIGTERM of multiprocessing."""
    script = (
        "from core.data.loading import Feed, LoaderOptions, Requests, make_loader\n"
        "from tests.core.data.test_loading import double\n"
        "feed = Feed()\n"
        "feed.requests = list(range(100))\n"
        "options = LoaderOptions(workers=2)\n"
        "held = iter(make_loader(Requests(double), options, sampler=feed, persistent=True))\n"
        "print(int(next(held)[0]), *(worker.pid for worker in held._workers), flush=True)\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 7
    first, *workers = done.stdout.split()
    assert first == "0"
    assert len(workers) == 2
    assert not [pid for pid in workers if Path("/proc", pid).exists()]
