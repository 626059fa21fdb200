"""``mel``: log-mel of the audio that a pair manifest names, as files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from components.preparation.mel_failures import Failures
from components.preparation.mel_folder import MelSide, mel_name, sides
from components.preparation.mel_work import Job, Outcome, begin, make_mel, usable
from components.preparation.own_inputs import refuse_own_inputs
from components.preparation.progress import Progress
from core.data.lines import Row, line_groups, parse_row
from core.errors import ConfigError, DataError, TrainingError
from core.registry import register


@register("prepare", "mel")
@dataclass(frozen=True, kw_only=True)
class Mel:
    """Make the mel of every utterance that a pair manifest names, once each, in its order.

    Files are ``MEL/<id>.npy``, (T, 80) float32, by the transform ``power_mel``: 22,050 Hz, window
    1,024, hop 256, 80 bands, log of power. A file appears whole or not at all. Files that exist
    are checked by header and size and kept; one that was cut off is made again. Audio that cannot
    be used is written with the reason into ``failed.jsonl`` and not tried again. So the command
    can be stopped at any time and given again.

    Args:
        manifest: pair manifest.
        mel: folder of the mels; None for ``mel`` beside the manifest.
        side: whose mel to make: target, prompt or both.
        audio_root: folder that relative audio paths start from; None for the manifest's.
        workers: processes, at least 1; None for the environment's NUM_WORKERS, or else one for
            each core.
        limit: most new files, at least 1, what exists or fails not counted; None for the
            environment's LIMIT, or else no limit.
        retry_failed: try audio that failed before once more.
        shards: spread new files over 256 sub-folders: a folder of millions is slow.
    """

    manifest: Path
    mel: Path | None = None
    side: MelSide = "target"
    audio_root: Path | None = None
    workers: int | None = None
    limit: int | None = None
    retry_failed: bool = False
    shards: bool = False

    def __call__(self, say: Callable[[str], None]) -> None:
        """Make what is missing. Raises DataError on bad rows, TrainingError if a worker dies."""
        if not self.manifest.is_file():
            raise DataError(f"pair manifest {self.manifest}: no such file")
        workers = _setting(self.workers, "workers", "NUM_WORKERS", say) or os.cpu_count() or 1
        limit = _setting(self.limit, "limit", "LIMIT", say)
        folder = self.mel or self.manifest.parent / "mel"
        folder.mkdir(parents=True, exist_ok=True)
        failures = Failures(folder, retry=self.retry_failed)
        counts: Counter[str] = Counter()
        jobs = self._jobs(folder, failures, counts)
        progress = Progress(say, counts)
        try:
            for outcome in _done(jobs, workers=workers, limit=limit):
                counts["made" if outcome.fault is None else "failed"] += 1
                failures.note(outcome)
                progress()
        finally:
            failures.close()
        say(f"{folder}: {counts['made']:,} mels made")
        for name, text in _COUNTS.items():
            if counts[name]:
                say(f"  {text}: {counts[name]:,}")
        for reason, number in failures.reasons().items():
            say(f"  failed, by reason: {reason}: {number:,}")
        if limit is not None and counts["made"] >= limit:
            say(f"  stopped at the limit of {limit:,} new files")
        say(f"next: python -m core.prepare order {self.manifest}")

    def _jobs(self, folder: Path, failures: Failures, counts: Counter[str]) -> Iterator[Job]:
        """Yield what is to be made, in the manifest's order; count what is not."""
        root = self.audio_root or self.manifest.parent
        seen: set[int] = set()
        number = 0
        for lines in line_groups(self.manifest):
            for line in lines:
                number += 1
                for identity, audio, row in self._named(line, number):
                    key = hash(identity)  # 8 bytes an id, where millions of strings would be held
                    if key in seen:
                        continue
                    seen.add(key)
                    counts["utterances"] += 1
                    for job in self._missing(identity, root / audio, folder, failures, counts):
                        refuse_own_inputs([job.output], self._arrays(row))
                        yield job

    def _missing(
        self, identity: str, audio: Path, folder: Path, failures: Failures, counts: Counter[str]
    ) -> Iterator[Job]:
        if identity in failures:
            counts["known"] += 1
            return
        try:
            places = [folder / mel_name(identity, sharded=sharded) for sharded in (False, True)]
        except ValueError as error:
            failures.note(Outcome(id=identity, audio=str(audio), fault=("file name", str(error))))
            counts["failed"] += 1
            return
        if any(usable(place) for place in places):
            counts["exists"] += 1
            return
        if any(place.exists() for place in places):
            counts["repaired"] += 1
        yield Job(id=identity, audio=audio, output=places[self.shards])

    def _named(self, line: bytes, number: int) -> Iterator[tuple[str, str, Row]]:
        """Yield the id and the audio of each utterance, and the row."""
        try:
            row = parse_row(line)
            for side in sides(self.side):
                for field in (f"{side}_id", f"{side}_audio_path"):
                    if type(row.get(field)) is not str or not row[field]:
                        raise ValueError(f"{field} is {row.get(field)!r}; expected a string")
                yield row[f"{side}_id"], row[f"{side}_audio_path"], row
        except ValueError as error:
            raise DataError(f"{self.manifest}:{number}: {error}") from error

    def _arrays(self, row: Row) -> list[Path]:
        """Return the files of a row that are no mel: one may have the name that its mel would."""
        return [
            self.manifest.parent / value
            for field, value in row.items()
            if field.endswith("_path") and not field.endswith("_mel_path") and type(value) is str
        ]


_COUNTS = {
    "utterances": "utterances looked at",
    "exists": "there already",
    "repaired": "of these made, there before but cut off or damaged",
    "failed": "failed now",
    "known": "failed before and not tried again (--retry-failed)",
}


def _done(jobs: Iterator[Job], *, workers: int, limit: int | None) -> Iterator[Outcome]:
    """Run jobs in processes; never start more than can still be within the limit."""
    made = 0
    running: set[Future[Outcome]] = set()
    context = get_context("forkserver")
    context.set_forkserver_preload([make_mel.__module__])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=begin) as pool:
        try:
            while True:
                while len(running) < 4 * workers and (limit is None or made + len(running) < limit):
                    job = next(jobs, None)
                    if job is None:
                        break
                    running.add(pool.submit(make_mel, job))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    outcome = future.result()
                    made += outcome.fault is None
                    yield outcome
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process that makes mels died, usually for want of memory; use fewer --workers. "
                "What was made is complete; the same command goes on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _setting(value: int | None, name: str, variable: str, say: Callable[[str], None]) -> int | None:
    """Return a setting, or that of the environment, saying so. Raises ConfigError."""
    text = os.environ.get(variable, "")
    if value is None and text:
        if not text.isdecimal() or int(text) < 1:
            raise ConfigError(f"{variable}={text} in the environment; expected at least 1")
        value = int(text)
        say(f"{variable}={value} from the environment")
    if value is not None and value < 1:
        raise ConfigError(f"mel: {name}={value}; expected at least 1")
    return value
