"""Makes the corpus of the adapter's demo: what patients say, spoken by adults or by children.

The same 32 sentences in both, by voices that no two splits share. Children are adults whose vocal
tract is shorter: played 1.4 times as fast, which moves pitch and formants up, and spoken as much
slower before, which leaves the tempo. It is the classic mismatch of recognisers, and one that a
model trained on adults answers with confident nonsense.
"""

from __future__ import annotations

import hashlib
import random
import sys
import wave
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.datasets.demo_corpus import damage, voices, write_manifest
from components.datasets.espeak_pool import speak
from components.datasets.espeak_worker import SAMPLE_RATE, Job, audio_name, resample
from components.datasets.made_once import checksum, made_once

LANGUAGE = "ko"
PHRASES = (
    "머리가 아파요", "배가 아파요", "허리가 아파요", "무릎이 부었어요", "목이 부었어요",
    "기침이 나요", "열이 나요", "콧물이 나요", "가슴이 답답해요", "숨이 차요", "속이 쓰려요",
    "소화가 안 돼요", "잠을 못 자요", "어지러워요", "토할 것 같아요", "손이 저려요",
    "발목을 삐었어요", "눈이 가려워요", "귀가 아파요", "이가 아파요", "약을 먹었어요",
    "주사를 맞았어요", "혈압을 재 주세요", "피검사를 해 주세요", "처방전을 주세요",
    "어제부터 아팠어요", "알레르기가 있어요", "수술을 받았어요", "임신 중이에요",
    "담배를 끊었어요", "입맛이 없어요", "피가 나요",
)  # fmt: skip
SHIFT = {"adults": 1.0, "children": 1.4}
"""How much faster the recording of a group is played."""

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicParameters:
    """What a split is made from.

    Args:
        split: ``train``, ``validation`` or ``test``.
        group: who speaks: ``adults`` or ``children``.
        utterances: how many.
        seed: of voices, rates, pitches and levels.
    """

    split: str
    group: str
    utterances: int
    seed: int


def plan(parameters: ClinicParameters) -> list[Job]:
    """Return what is to be spoken, a pure function of the parameters: each phrase as often."""
    split, group = parameters.split, parameters.group
    speakers = voices(split, LANGUAGE)
    jobs = []
    for index in range(parameters.utterances):
        name = f"{parameters.seed}/{split}/{group}/{index}"
        draw = random.Random(name).random
        round_number, phrase = divmod(index, len(PHRASES))
        jobs.append(
            Job(
                index=index,
                text=PHRASES[phrase],
                voice=speakers[(round_number + phrase) % len(speakers)],
                rate=round((150 + 40 * draw()) / SHIFT[group]),
                pitch=round(30 + 40 * draw()),
                level=round(0.2 + 0.7 * draw(), 3),
                seed=zlib.crc32(name.encode()) >> 1,
            )
        )
    return jobs


def ensure(parameters: ClinicParameters, cache: Path) -> Path:
    """Return the folder of a corpus, and make it first if it is not there or is damaged.

    Raises:
        DataError: if eSpeak NG is not installed or fails, or the cache cannot be written.
    """
    jobs = plan(parameters)
    split, group = parameters.split, parameters.group
    name = f"clinic-{group}-{split}-{checksum(jobs, _VERSION)}"
    return made_once(cache / name, damage=damage, make=lambda f: _make(jobs, parameters, f))


def _make(jobs: Sequence[Job], parameters: ClinicParameters, folder: Path) -> None:
    audio = folder / "audio"
    audio.mkdir()
    group = parameters.group
    title = f"clinic: speaking {len(jobs):,} sentences of {group} ({parameters.split})"
    spoken = speak(jobs, audio, title)
    rows = []
    for job in jobs:
        report = spoken[job.index]
        if SHIFT[group] != 1.0:
            report = _play_faster(audio / audio_name(job.index), SHIFT[group])
        rows.append(_row(job, report, group))
    write_manifest(folder, rows)
    hours = sum(row["duration"] for row in rows) / 3600
    print(
        f"clinic: {len(jobs):,} utterances of {group}, {hours:.2f} h in {folder.parent}",
        file=sys.stderr,
        flush=True,
    )


def _play_faster(file: Path, factor: float) -> dict[str, Any]:
    """Rewrite a recording so that it sounds ``factor`` times as fast and as high."""
    with wave.open(str(file)) as stream:
        samples = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")
    played = resample(samples.astype(np.float64), round(1000 * factor), 1000)
    content = np.clip(np.rint(played), -32768, 32767).astype("<i2").tobytes()
    with wave.open(str(file), "wb") as stream:
        stream.setparams((1, 2, SAMPLE_RATE, len(content) // 2, "NONE", ""))
        stream.writeframes(content)
    return {"samples": len(content) // 2, "sha256": hashlib.sha256(content).hexdigest()}


def _row(job: Job, report: dict[str, Any], group: str) -> dict[str, Any]:
    return {
        "audio_filepath": f"audio/{audio_name(job.index)}",
        "duration": report["samples"] / SAMPLE_RATE,
        "text": job.text,
        "speaker": f"{group}/{job.voice}",
        "lang": LANGUAGE,
        "sha256": report["sha256"],
    }
