"""Processes that speak a list of utterances beside each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from components.datasets.demo_progress import progress
from components.datasets.espeak import check_voice
from components.datasets.espeak_worker import Job
from core.errors import DataError


def speak(jobs: Sequence[Job], folder: Path, title: str) -> dict[int, dict[str, Any]]:
    """Have worker processes write all jobs as audio; return their reports by index.

    Raises:
        DataError: a voice is unknown, or a process failed.
    """
    for voice in {job.voice for job in jobs}:
        check_voice(voice)
    count = min(len(jobs), _processors(), 16)
    spoken: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as log:
        jobs_file = Path(scratch) / "jobs.jsonl"
        jobs_file.write_text("".join(json.dumps(asdict(job)) + "\n" for job in jobs))
        arguments = [[str(jobs_file), str(folder), str(n), str(count)] for n in range(count)]
        with _running(arguments, log) as (workers, reports):
            for line in progress(reports, total=len(jobs), title=title):
                report = json.loads(line)
                spoken[report["index"]] = report
            statuses = [worker.wait() for worker in workers]
        if any(statuses):
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit status {max(statuses, key=abs)}"
            raise DataError(f"a process that speaks the demo corpus failed: {reason}")
    return spoken


@contextmanager
def _running(
    arguments: Sequence[list[str]], log: IO[bytes]
) -> Iterator[tuple[list[subprocess.Popen[bytes]], IO[str]]]:
    """Start workers that share one pipe for reports and one log; none outlives the context."""
    workers: list[subprocess.Popen[bytes]] = []
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, encoding="utf-8") as reports:
        try:
            try:
                workers.extend(_start(each, write_end, log) for each in arguments)
            finally:
                os.close(write_end)
            yield workers, reports
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def _start(arguments: list[str], output: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = "1"  # a worker forks, and must have no threads when it does
    command = [sys.executable, "-m", "components.datasets.espeak_worker", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=log, env=environment
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
