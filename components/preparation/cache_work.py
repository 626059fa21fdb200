"""What a process does that extracts features for the cache."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from components.features.whisper import WhisperFeatures, trim
from components.preparation.mel_work import Outcome, begin
from core.data.audio import AudioError, load_audio
from core.data.feature_index import DTYPES, StoredDtype
from core.errors import TrainingError

_EXTRACTOR = "transformers.models.whisper.feature_extraction_whisper"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheJob:
    """An utterance to extract features of, with the stamp of its audio."""

    cut: Cut
    dtype: StoredDtype
    stamp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """Trimmed features on their way between processes; bfloat16 travels as 16-bit integers.

    Args:
        notes: what was done to the audio, each to be counted.
    """

    id: str
    frames: np.ndarray[Any, Any]
    fill: float
    samples: int
    stamp: float
    notes: tuple[str, ...]

    def tensor(self) -> Tensor:
        """Return (128, T) in the dtype of the job."""
        array = torch.from_numpy(self.frames)
        return array if array.dtype == torch.float32 else array.view(torch.bfloat16)


def audio_name(cut: Cut) -> str:
    """Return where a cut's audio is, for messages."""
    return ", ".join(
        source.source if source.type == "file" else f"({source.type})"
        for recording in _recordings(cut)
        for source in recording.sources
    )


def audio_stamp(cut: Cut) -> float:
    """Return 48 bits that change when the audio of a cut does, exact as a float.

    They depend on name, size and time of each file and on the range that the cut takes of it, not
    on the folder, so that a corpus may be moved.
    """
    digest = hashlib.blake2b(digest_size=6)
    digest.update(f"{getattr(cut, 'start', 0)} {cut.duration}".encode())
    for recording in _recordings(cut):
        for source in recording.sources:
            if source.type != "file":
                digest.update(str(source.source).encode())
                continue
            path = Path(source.source)
            try:
                stat = path.stat()
            except OSError:
                continue  # the process that decodes it says what is wrong
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return float(int.from_bytes(digest.digest(), "little"))


def extract(job: CacheJob) -> Extracted | Outcome:
    """Decode the audio of one utterance once, and return its trimmed features."""
    cut, transform = job.cut, _transform()
    try:
        audio = load_audio(cut, sample_rate=transform.sample_rate, channel="mean")
    except AudioError as error:
        return Outcome(id=cut.id, audio=audio_name(cut), fault=(error.reason, error.detail))
    trimmed = trim(transform(torch.from_numpy(audio)), samples=audio.size)
    frames = trimmed.frames.to(DTYPES[job.dtype])
    return Extracted(
        id=cut.id,
        frames=(frames.view(torch.int16) if job.dtype == "bf16" else frames).numpy(),
        fill=trimmed.fill,
        samples=trimmed.samples,
        stamp=job.stamp,
        notes=_notes(cut, loudest=float(np.abs(audio).max())),
    )


def extracted(jobs: Iterator[CacheJob], *, workers: int) -> Iterator[Extracted | Outcome]:
    """Run jobs in processes, a few ahead of what is taken; yield in the order of the jobs.

    Raises:
        TrainingError: a process died.
    """
    running: deque[Future[Extracted | Outcome]] = deque()
    context = get_context("forkserver")
    # Importing the extractor takes seconds, which every process would need for itself.
    context.set_forkserver_preload([__name__, _EXTRACTOR])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=begin) as pool:
        try:
            for job in jobs:
                running.append(pool.submit(extract, job))
                if len(running) == 4 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process that extracts features died, usually for want of memory; use fewer "
                "--workers. Finished shards are complete; the same command goes on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _recordings(cut: Cut) -> list[Any]:
    parts = [track.cut for track in getattr(cut, "tracks", ())] or [cut]
    return [part.recording for part in parts if getattr(part, "recording", None) is not None]


def _notes(cut: Cut, *, loudest: float) -> tuple[str, ...]:
    notes = []
    rate = int(cut.sampling_rate)
    if rate != WhisperFeatures.sample_rate:
        notes.append(f"resampled from {rate:,} Hz")
    if cut.num_channels > 1:
        notes.append(f"{cut.num_channels} channels averaged")
    if loudest > 1:
        notes.append("samples beyond 1, kept as they are")
    return tuple(notes)


@cache
def _transform() -> WhisperFeatures:
    return WhisperFeatures()
