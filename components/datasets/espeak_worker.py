"""The process that speaks the demo corpus: ``python -m components.datasets.espeak_worker``.

It is a process of its own because it forks for every utterance, which a process with busy threads
must not do, and because it alone opens the GPL-licensed library. It imports no torch.

Arguments are a file with one :class:`Job` a line as JSON, the folder for audio, the number of this
worker and the number of workers. For each job it writes a 16-bit wave file and then prints
``{"index": ..., "samples": ..., "sha256": ...}``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from components.datasets.espeak import Espeak, Utterance

SAMPLE_RATE = 16_000
_HALF_TAPS = 24
_ROLL_OFF = 0.92
_SILENCE = 0.12
_NOISE_FLOOR = 3e-4

Samples: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One utterance of the corpus.

    Args:
        index: row in the manifest.
        text: the sentence.
        voice: name of the voice.
        rate: words a minute.
        pitch: 0 to 100.
        level: peak amplitude, above 0 and below 1.
        seed: of the voice's random numbers and of the noise floor.
        pitch_range: 0 to 100; 50 is that of the voice itself.
        emphasis: stress the whole sentence strongly.
    """

    index: int
    text: str
    voice: str
    rate: int
    pitch: int
    level: float
    seed: int
    pitch_range: int = 50
    emphasis: bool = False


def resample(samples: Samples, source: int, target: int) -> Samples:
    """Return (S,) samples at another rate, by windowed-sinc interpolation.

    Each output is a sum over 48 inputs around its time, weighted by a Kaiser-windowed sinc whose
    cut-off lies at 0.92 of the lower Nyquist frequency.
    """
    divisor = math.gcd(source, target)
    up, down = target // divisor, source // divisor
    length = -(-len(samples) * up // down)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(samples, (_HALF_TAPS - 1, _HALF_TAPS + down)), 2 * _HALF_TAPS
    )
    result = np.empty(length)
    for first in range(min(up, length)):
        start, phase = divmod(first * down, up)
        count = len(range(first, length, up))
        taps = _taps(phase / up, min(1.0, target / source) * _ROLL_OFF)
        result[first::up] = windows[start : start + count * down : down][:count] @ taps
    return result


@lru_cache(maxsize=1024)
def _taps(offset: float, cutoff: float) -> Samples:
    distance = np.arange(1 - _HALF_TAPS, _HALF_TAPS + 1) - offset
    window = np.i0(9.0 * np.sqrt(np.clip(1.0 - (distance / _HALF_TAPS) ** 2, 0.0, None))) / np.i0(9)
    taps: Samples = np.sinc(distance * cutoff) * window
    taps /= taps.sum()
    return taps


def render(job: Job, espeak: Espeak) -> bytes:
    """Return the utterance as 16-bit little-endian samples at 16 kHz, on a faint noise floor.

    Without the floor, the pauses of synthetic speech are exact zeros, which no recording has and
    which reach a log-mel front end as a spike at its lower limit.
    """
    spoken = espeak.speak(
        Utterance(
            text=job.text,
            voice=job.voice,
            rate=job.rate,
            pitch=job.pitch,
            pitch_range=job.pitch_range,
            emphasis=job.emphasis,
            seed=job.seed,
        )
    )
    samples = resample(spoken.astype(np.float64), espeak.sample_rate, SAMPLE_RATE)
    samples *= job.level / max(np.abs(samples).max(), 1.0)
    samples = np.pad(samples, round(_SILENCE * SAMPLE_RATE))
    samples += _NOISE_FLOOR * np.random.default_rng(job.seed).standard_normal(len(samples))
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2").tobytes()


def audio_name(index: int) -> str:
    """Return the file name of an utterance in the corpus."""
    return f"{index:06d}.wav"


def main(jobs_file: str, folder: str, worker: str, workers: str) -> None:
    """Speak every ``workers``-th job, beginning with number ``worker``."""
    espeak = Espeak()
    lines = Path(jobs_file).read_text(encoding="utf-8").splitlines()
    for line in lines[int(worker) :: int(workers)]:
        job = Job(**json.loads(line))
        content = render(job, espeak)
        with wave.open(str(Path(folder) / audio_name(job.index)), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, len(content) // 2, "NONE", ""))
            file.writeframes(content)
        report = {
            "index": job.index,
            "samples": len(content) // 2,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        # The workers share one pipe: a single short write arrives whole, a print may not.
        os.write(sys.stdout.fileno(), f"{json.dumps(report)}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
