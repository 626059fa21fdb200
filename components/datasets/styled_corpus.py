"""Makes the corpus of Stage 2's demo and keeps it in a cache.

It holds what a real corpus of this stage holds after its own preparation: for each utterance text
ids, semantic codes, latents of its speaker, an emotion vector and mel, all as ``.npy``; pair
manifests whose rows all have mel; and the speaker mapping. Pairs, mapping, mel and order are made
by the verbs of ``core.prepare``.

The codes are in units of each voice and the latents tell whose, so that a model needs
its emotion vector for the style and has the speaker from elsewhere.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.datasets.demo_progress import progress
from components.datasets.espeak_pool import speak
from components.datasets.espeak_worker import SAMPLE_RATE, audio_name
from components.datasets.made_once import checksum, made_once
from components.datasets.styled_codes import MEASURES, centroids, codes, measured, of_voice
from components.datasets.styled_speech import (
    SPLITS,
    StyledParameters,
    Utterance,
    plan,
    text_ids,
    words,
)
from components.preparation.mel import Mel
from components.preparation.mel_work import begin
from components.preparation.order import Order
from components.preparation.pairs import Pairs
from components.preparation.speakers import Speakers
from core.data.npy import write_array

SPEAKERS = "speakers.json"
LATENTS, DIM = 8, 128
"""Shape of the stored speaker latents; the emotion vectors have ``DIM`` numbers."""

_VERSION = 4
_CONTENTS = "contents.json"


def ensure(parameters: StyledParameters, cache: Path) -> Path:
    """Return the folder of a corpus, and make it first if it is not there or is damaged.

    Raises:
        DataError: eSpeak NG is not installed or fails, or the cache cannot be written.
    """
    planned = plan(parameters)
    digest = checksum([utterance.job for utterance in planned], _VERSION)
    return made_once(
        cache / f"demo-pairs-{parameters.language}-{digest}",
        damage=_damage,
        make=lambda folder: _make(planned, parameters, folder),
    )


def _damage(folder: Path) -> str | None:
    """Say what is wrong with a corpus; None if every file is there with its full size."""
    try:
        sizes: dict[str, int] = json.loads((folder / _CONTENTS).read_text())
    except (OSError, ValueError):
        return "no list of contents"
    for name, size in sizes.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != size:
            return f"{name} is missing or incomplete"
    return None


def _make(planned: Sequence[Utterance], parameters: StyledParameters, folder: Path) -> None:
    for name in ("audio", "text", "codes", "condition", "emotion"):
        (folder / name).mkdir()
    spoken = speak(
        [utterance.job for utterance in planned],
        folder / "audio",
        f"demo: speaking {len(planned):,} sentences in five styles",
    )
    measures = _measure(planned, folder)
    table = _write_codes(planned, measures, parameters, folder)
    _write_latents(planned, measures, parameters, folder)
    write_array(folder / "centroids.npy", table.numpy())
    vocabulary = words(parameters.language)
    for split in SPLITS:
        rows = [
            _row(utterance, spoken, len(measures[utterance.id]), vocabulary, folder)
            for utterance in planned
            if utterance.split == split
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"utterances_{split}.jsonl").write_text(lines, encoding="utf-8")
        Pairs(
            manifest=folder / f"utterances_{split}.jsonl",
            output=folder / f"{split}.jsonl",
            seed=parameters.seed,
        )(_silent)
    _make_mels(folder)
    Speakers(manifest=folder / "train.jsonl", output=folder / SPEAKERS, all=True)(_silent)
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    (folder / _CONTENTS).write_text(json.dumps(sizes, indent=0, sort_keys=True))
    voices = {utterance.job.voice for utterance in planned}
    print(
        f"demo: {len(planned):,} utterances, {len(voices)} voices in {folder.parent}",
        file=sys.stderr,
        flush=True,
    )


def _make_mels(folder: Path) -> None:
    """Make the mels of all splits, and name them in their pairs."""
    rows = [(folder / f"{split}.jsonl").read_bytes() for split in SPLITS]
    everything = folder / "pairs.jsonl"
    everything.write_bytes(b"".join(rows))
    # A limit is given, for the environment's LIMIT is meant for the rows of training.
    most = 2 * sum(text.count(b"\n") for text in rows)
    Mel(manifest=everything, side="both", workers=_processors(), limit=most)(_silent)
    everything.unlink()
    for split in SPLITS:
        Order(manifest=folder / f"{split}.jsonl", side="both")(_silent)


def _measure(planned: Sequence[Utterance], folder: Path) -> dict[str, Tensor]:
    """Return the (T, 14) measures of each utterance by id."""
    paths = [folder / "audio" / audio_name(utterance.job.index) for utterance in planned]
    context = get_context("forkserver")
    with ProcessPoolExecutor(_processors(), mp_context=context, initializer=begin) as pool:
        found = pool.map(_measured, paths, chunksize=16)
        shown = progress(found, total=len(paths), title="demo: measuring pitch and timbre")
        return {
            utterance.id: torch.from_numpy(values)
            for utterance, values in zip(planned, shown, strict=True)
        }


def _measured(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    found: np.ndarray[Any, np.dtype[np.float32]] = measured(path).numpy()
    return found


def _write_codes(
    planned: Sequence[Utterance],
    measures: dict[str, Tensor],
    parameters: StyledParameters,
    folder: Path,
) -> Tensor:
    """Write the codes of all utterances; return the centroids. Measures become voice-relative."""
    by_voice: dict[str, list[str]] = defaultdict(list)
    for utterance in planned:
        by_voice[utterance.job.voice].append(utterance.id)
    relative: dict[str, Tensor] = {}
    for ids in by_voice.values():
        mean, deviation = of_voice([measures[name] for name in ids])
        relative |= {name: (measures[name] - mean) / deviation for name in ids}
    train = [relative[utterance.id] for utterance in planned if utterance.split == "train"]
    table = centroids(torch.cat(train), seed=parameters.seed)
    for name, frames in relative.items():
        write_array(folder / "codes" / f"{name}.npy", codes(frames, table).int().numpy())
        style = torch.cat([frames.mean(0), frames.std(0, correction=0)])
        write_array(folder / "emotion" / f"{name}.npy", (style @ _projection(1, DIM)).numpy())
    return table


def _write_latents(
    planned: Sequence[Utterance],
    measures: Mapping[str, Tensor],
    parameters: StyledParameters,
    folder: Path,
) -> None:
    """Write what an utterance tells of its voice, spread over latents by a fixed projection."""
    told = {
        name: torch.cat([frames.mean(0), frames.std(0, correction=0)])
        for name, frames in measures.items()
    }
    train = torch.stack([told[utterance.id] for utterance in planned if utterance.split == "train"])
    mean, deviation = train.mean(0), train.std(0).clamp_min(1e-3)
    projection = _projection(2, LATENTS * DIM)
    for name, values in told.items():
        latents = ((values - mean) / deviation) @ projection
        write_array(folder / "condition" / f"{name}.npy", latents.view(LATENTS, DIM).numpy())


def _projection(seed: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2 * MEASURES, size, generator=generator)
    return drawn / math.sqrt(2 * MEASURES)


def _row(
    utterance: Utterance,
    spoken: Mapping[int, Mapping[str, Any]],
    code_len: int,
    vocabulary: Mapping[str, int],
    folder: Path,
) -> dict[str, Any]:
    name, job = utterance.id, utterance.job
    ids = text_ids(job.text, vocabulary)
    write_array(folder / "text" / f"{name}.npy", np.array(ids, dtype=np.int32))
    return {
        "id": name,
        "audio_path": f"audio/{audio_name(job.index)}",
        "text": job.text,
        "speaker": job.voice,
        "language": name.partition("-")[0],
        "duration": spoken[job.index]["samples"] / SAMPLE_RATE,
        "emotion": utterance.style,
        "text_ids_path": f"text/{name}.npy",
        "text_len": len(ids),
        "codes_path": f"codes/{name}.npy",
        "code_len": code_len,
        "condition_path": f"condition/{name}.npy",
        "condition_len": LATENTS,
        "emo_vec_path": f"emotion/{name}.npy",
    }


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _silent(_: str) -> None:
    """Say nothing: what the verbs do is part of making the corpus."""
