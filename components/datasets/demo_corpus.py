"""Makes one split of the demo corpus and keeps it in a cache.

A corpus is a folder with ``manifest.jsonl`` (NeMo's fields, paths relative to it) and ``audio/``.
Its name holds a checksum of every parameter and sentence, so that another request never finds
somebody else's corpus. It is written under a temporary name and renamed when it is complete; a
lock lets several processes ask for it at once.
"""

from __future__ import annotations

import json
import os
import random
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from components.datasets.demo_text import GRAMMARS
from components.datasets.espeak_pool import speak
from components.datasets.espeak_worker import SAMPLE_RATE, Job, audio_name
from components.datasets.made_once import checksum, made_once

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
    name = f"demo-{parameters.language}-{parameters.split}-{checksum(jobs, _AUDIO_VERSION)}"
    return made_once(
        cache / name, damage=damage, make=lambda folder: _make(jobs, parameters, folder)
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the manifest of a corpus."""
    with (folder / MANIFEST).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_manifest(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a corpus as JSON lines."""
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def damage(folder: Path) -> str | None:
    """Say what is wrong with a corpus; None if every file is there with its full length."""
    if not (folder / MANIFEST).exists():
        return "no manifest"
    for row in rows(folder):
        path = folder / row["audio_filepath"]
        size = _WAVE_HEADER + 2 * round(row["duration"] * SAMPLE_RATE)
        if not path.exists() or path.stat().st_size != size:
            return f"{row['audio_filepath']} is missing or incomplete"
    return None


def _make(jobs: Sequence[Job], parameters: DemoParameters, folder: Path) -> None:
    (folder / "audio").mkdir()
    title = f"demo: speaking {len(jobs):,} sentences ({parameters.split})"
    spoken = speak(jobs, folder / "audio", title)
    write_manifest(folder, [_row(job, spoken[job.index], parameters.language) for job in jobs])
    hours = sum(report["samples"] for report in spoken.values()) / SAMPLE_RATE / 3600
    print(
        f"demo: {len(jobs):,} utterances, {hours:.2f} h, "
        f"{len({job.voice for job in jobs})} voices in {folder.parent}",
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
