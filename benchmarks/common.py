"""Measure alternatives in one process, interleaved, so that a loaded machine slows all alike."""

from __future__ import annotations

import ctypes
import json
import math
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one alternative over all rounds, and the memory of one step."""

    median: float
    lowest: float
    highest: float
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    """Processor time of all threads: hardly moved by what else the machine does."""
    peak_mib: float
    """Largest memory during one step above what was held before it."""


def compare(
    variants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
    sample_seconds: float = 0.0,
) -> dict[str, Timing]:
    """Run every alternative twice to warm up and measure memory, then once a round, timed.

    Where a step takes less than ``sample_seconds``, a round runs it as often as fills them, without
    waiting for the device between, and counts the mean; at most 100 times.
    """
    peaks = {name: _peak_mib(step, device) for name, step in variants.items()}
    repeats = dict.fromkeys(variants, 1)
    if sample_seconds:
        for name, step in variants.items():
            often = math.ceil(sample_seconds / _timed(step, device, 1)[0])
            repeats[name] = min(max(often, 1), 100)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, step in variants.items():
            rows[name].append(_timed(step, device, repeats[name]))
    timings = {}
    for name, pairs in rows.items():
        seconds, cpu_seconds = zip(*pairs, strict=True)
        timings[name] = Timing(
            median=statistics.median(seconds),
            lowest=min(seconds),
            highest=max(seconds),
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            peak_mib=peaks[name],
        )
    return timings


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a measurement depends on beside the code."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the processor's name, which ``platform.processor`` leaves empty on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def show(title: str, timings: Mapping[str, Timing], *, baselines: tuple[str, ...]) -> None:
    """Print a table with the ratios of median wall and processor time to those of baselines."""
    columns = ["variant", "median s", "lowest", "highest", "cpu s", "peak MiB"]
    columns += [f"/ {base}\nwall, cpu" for base in baselines]
    rows = []
    for name, timing in timings.items():
        cpu = statistics.median(timing.cpu_seconds)
        ratios = (
            f"{timing.median / timings[base].median:.3f}, "
            f"{cpu / statistics.median(timings[base].cpu_seconds):.3f}"
            for base in baselines
        )
        figures = (timing.median, timing.lowest, timing.highest, cpu)
        rows.append(
            (name, *(f"{value:.3f}" for value in figures), f"{timing.peak_mib:.0f}", *ratios)
        )
    print_table(title, columns, rows)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column flush left, the others flush right.

    In plain text without rich: the kernels, and so their benchmark, need no more than torch.
    """
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plain(title, columns, rows)
    else:
        table = Table(title=title)
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        Console(width=120).print(table)
    sys.stdout.flush()


def _print_plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.replace("\n", " ") for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    print(title)
    for first, *others in lines:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON; timings become objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, default=asdict) + "\n")


def _timed(step: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Return wall and processor seconds of one step, the mean of several."""
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        step()
    _wait(device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / repeats, cpu / repeats


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
