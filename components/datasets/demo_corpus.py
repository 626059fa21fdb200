"""Makes one split of the demo corpus and keeps it in a cache.

A corpus is a folder with ``manifest.jsonl`` (NeMo's fields, paths relative to it) and ``audio/``.
Its name holds a checksum of every parameter and sentence, so that another request never finds
somebody else's corpus. It is written under a temporary name and renamed when it is complete; a
lock lets several processes ask for it at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any

from components.datasets.demo_progress import progress
from components.datasets.demo_text import GRAMMARS
from components.datasets.espeak import check_voice, data_folder
from components.datasets.espeak_worker import SAMPLE_RATE, Job, audio_name
from core.errors import DataError

MANIFEST = "manifest.jsonl"
DEFAULT_UTTERANCES = {"train": 2400, "validation": 120, "test": 160}

_AUDIO_VERSION = 1
_WAVE_HEADER = 44
_ACCENTS = {
    "en": ("en-us", "en-us", "en-gb-x-rp", "en-us", "en-gb-scotland"),
    "ko": ("ko",),
}
_VARIANTS = {
    "train": (
        "m1", "f1", "Alex", "linda", "Gene", "m2", "Annie", "Denis", "f2", "Mario",
        "m4", "belinda", "Diogo", "steph", "boris", "m7", "f4", "Jacky", "Storm", "grandma",
        "m8", "Mike", "adam", "ed", "max", "Nguyen", "edward", "gustave", "iven4", "quincy",
    ),
    "validation": ("m3", "f5", "paul", "grandpa", "benjamin", "marcelo"),
    "test": ("m6", "f3", "robert", "sandro", "m5", "victor"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoParameters:
    """What a split of the demo corpus is made from.

    Args:
        split: ``train``, ``validation`` or ``test``.
        language: ``en`` or ``ko``.
        utterances: how many.
        seed: of the choice of sentences, voices, rates, pitches and levels.
    """

    split: str
    language: str
    utterances: int
    seed: int


def voices(split: str, language: str) -> tuple[str, ...]:
    """Return the voices of a split. Those of different splits differ in their variant."""
    variants = _VARIANTS[split]
    accents = islice(cycle(_ACCENTS[language]), len(variants))
    return tuple(f"{accent}+{name}" for accent, name in zip(accents, variants, strict=True))


def plan(parameters: DemoParameters) -> list[Job]:
    """Return what is to be spoken, a pure function of the parameters."""
    split, count = parameters.split, parameters.utterances
    grammar = GRAMMARS[parameters.language]
    sentences = grammar.sentences(split, count=count, seed=parameters.seed)
    speakers = voices(split, parameters.language)
    jobs = []
    for index, text in enumerate(sentences):
        name = f"{parameters.seed}/{split}/{parameters.language}/{index}"
        draw = random.Random(name).random
        jobs.append(
            Job(
                index=index,
                text=text,
                voice=speakers[index % len(speakers)],
                rate=round(125 + 55 * draw()),
                pitch=round(30 + 40 * draw()),
                level=round(0.2 + 0.7 * draw(), 3),
                seed=zlib.crc32(name.encode()) >> 1,
            )
        )
    return jobs


def ensure(parameters: DemoParameters, cache: Path) -> Path:
    """Return the folder of a corpus, and make it first if it is not there or is damaged.

    Raises:
        DataError: if eSpeak NG is not installed or fails, or the cache cannot be written.
    """
    jobs = plan(parameters)
    name = f"demo-{parameters.language}-{parameters.split}-{_checksum(jobs)}"
    target = cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{name}.lock", name):
            damage = _damage(target)
            if damage is None:
                return target
            if target.exists():
                print(f"demo: {target}: {damage}; making it again", file=sys.stderr, flush=True)
                shutil.rmtree(target)
            for stale in cache.glob(f"{name}.part-*"):
                shutil.rmtree(stale, ignore_errors=True)
            _make(jobs, parameters, target)
    except OSError as error:
        raise DataError(f"the demo corpus cannot be kept in {cache}: {error}") from error
    return target


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the manifest of a corpus."""
    with (folder / MANIFEST).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _checksum(jobs: Sequence[Job]) -> str:
    data_folder()
    try:
        spoken_by = metadata.version("espeakng-loader")
    except metadata.PackageNotFoundError:
        spoken_by = "unknown"
    content = json.dumps([_AUDIO_VERSION, spoken_by, [asdict(job) for job in jobs]])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"demo: waiting for another process to make {name}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _damage(folder: Path) -> str | None:
    """Say what is wrong with a corpus; None if every file is there with its full length."""
    if not (folder / MANIFEST).exists():
        return "no manifest"
    for row in rows(folder):
        path = folder / row["audio_filepath"]
        size = _WAVE_HEADER + 2 * round(row["duration"] * SAMPLE_RATE)
        if not path.exists() or path.stat().st_size != size:
            return f"{row['audio_filepath']} is missing or incomplete"
    return None


def _make(jobs: Sequence[Job], parameters: DemoParameters, target: Path) -> None:
    for voice in {job.voice for job in jobs}:
        check_voice(voice)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        (part / "audio").mkdir()
        title = f"demo: speaking {len(jobs):,} sentences ({parameters.split})"
        spoken = _speak(jobs, part / "audio", title)
        with (part / MANIFEST).open("w", encoding="utf-8") as file:
            for job in jobs:
                row = _row(job, spoken[job.index], parameters.language)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o755)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    hours = sum(report["samples"] for report in spoken.values()) / SAMPLE_RATE / 3600
    print(
        f"demo: {len(jobs):,} utterances, {hours:.2f} h, "
        f"{len({job.voice for job in jobs})} voices in {target}",
        file=sys.stderr,
        flush=True,
    )


def _row(job: Job, report: dict[str, Any], language: str) -> dict[str, Any]:
    return {
        "audio_filepath": f"audio/{audio_name(job.index)}",
        "duration": report["samples"] / SAMPLE_RATE,
        "text": job.text,
        "speaker": job.voice,
        "lang": language,
        "sha256": report["sha256"],
    }


def _speak(jobs: Sequence[Job], folder: Path, title: str) -> dict[int, dict[str, Any]]:
    """Have worker processes speak all jobs; return their reports by index."""
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
