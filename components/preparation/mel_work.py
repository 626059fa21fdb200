"""What a process does that makes mels."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from components.features.power_mel import PowerMel
from core.data.audio import AudioError, load_audio, recording
from core.data.npy import read_header, write_array


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An utterance to make the mel of."""

    id: str
    audio: Path
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job; ``fault`` is a reason that can be counted, with details."""

    id: str
    audio: str
    fault: tuple[str, str] | None = None


def begin() -> None:
    """Prepare a worker: one thread, and the end when the command ends, however that happens."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def make_mel(job: Job) -> Outcome:
    """Write the mel of one utterance, whole or not at all."""
    try:
        cut = recording(job.audio, utterance=job.id).to_cut()
        samples = load_audio(cut, sample_rate=_transform().sample_rate, channel="mean")
    except AudioError as error:
        return Outcome(id=job.id, audio=str(job.audio), fault=(error.reason, error.detail))
    mel, _ = _transform()(torch.from_numpy(samples)[None], torch.tensor([samples.size]))
    job.output.parent.mkdir(exist_ok=True)
    write_array(job.output, mel[0].numpy())
    return Outcome(id=job.id, audio=str(job.audio))


def usable(path: Path, *, num_bins: int = 80) -> bool:
    """Say whether a file has the header and size of a mel."""
    try:
        header = read_header(path)
        return (
            len(header.shape) == 2
            and header.shape[0] > 0
            and header.shape[1] == num_bins
            and header.dtype in (np.float32, np.float16)
            and header.size == path.stat().st_size
        )
    except (OSError, ValueError):
        return False


@cache
def _transform() -> PowerMel:
    return PowerMel()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
