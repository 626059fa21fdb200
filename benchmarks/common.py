"""Measure alternatives in one process, interleaved, so that a loaded machine slows all alike."""

from __future__ import annotations

import ctypes
import json
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one alternative over all rounds, and the memory of one step."""

    median: float
    lowest: float
    highest: float
    seconds: tuple[float, ...]
    peak_mib: float
    """Largest memory during one step above what was held before it."""


def compare(
    variants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
) -> dict[str, Timing]:
    """Run every alternative twice to warm up and measure memory, then once a round, timed."""
    peaks = {name: _peak_mib(step, device) for name, step in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, step in variants.items():
            seconds[name].append(_timed(step, device))
    return {
        name: Timing(
            median=statistics.median(values),
            lowest=min(values),
            highest=max(values),
            seconds=tuple(values),
            peak_mib=peaks[name],
        )
        for name, values in seconds.items()
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a measurement depends on beside the code."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def show(title: str, timings: Mapping[str, Timing], *, baselines: tuple[str, ...]) -> None:
    """Print a table with the ratio of each median to that of each baseline."""
    table = Table(title=title)
    columns = ["variant", "median s", "lowest", "highest", "peak MiB"]
    for column in (*columns, *(f"/ {name}" for name in baselines)):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, timing in timings.items():
        ratios = (f"{timing.median / timings[base].median:.3f}" for base in baselines)
        figures = (timing.median, timing.lowest, timing.highest)
        table.add_row(
            name, *(f"{value:.3f}" for value in figures), f"{timing.peak_mib:.0f}", *ratios
        )
    Console(width=120).print(table)


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON; timings become objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, default=asdict) + "\n")


def _timed(step: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_mib(step: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        step()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        _wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    step()
    # The C library keeps freed memory resident; without this a step would hide in what an earlier
    # one left behind.
    ctypes.CDLL(None).malloc_trim(0)
    with _ResidentPeak() as resident:
        step()
    return resident.mib


class _ResidentPeak:
    """Sample this process's resident memory every two milliseconds (Linux)."""

    def __enter__(self) -> _ResidentPeak:
        self._before = self._highest = _resident_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        return (self._highest - self._before) / 2**20

    def _sample(self) -> None:
        while not self._done.wait(0.002):
            self._highest = max(self._highest, _resident_bytes())


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS line")
