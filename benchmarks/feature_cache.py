"""``python -m benchmarks.feature_cache``: features from the cache, from .pt files, and from audio.

Clips of noise are written as 16-bit WAV. The verb ``cache`` stores their features; the same are
written padded, in float32, as one ``.pt`` file a clip. All three are then read in the same process,
in turns and each time in another order, up to the (chunks, 128, 3000) that the encoder takes. Files
are in the page cache, so what is measured is work, not the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from benchmarks.common import compare, environment, print_table, write
from components.features.whisper import SAMPLE_RATE, WhisperFeatures
from components.features.whisper_cache import WhisperCache
from components.preparation.cache import Cache
from core.data.feature_index import StoredDtype

LIVE, PT = "audio: decode and extract", ".pt a clip, padded float32"
CACHES: dict[StoredDtype, str] = {"bf16": "cache, bf16", "float32": "cache, float32"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    shortest, longest = options.seconds
    if options.rows < 1 or not 0.1 <= shortest <= longest:
        raise SystemExit("expected rows of at least 1 and 0.1 <= SHORTEST <= LONGEST seconds")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="feature-cache-", dir=options.folder) as name:
        found = measure(Path(name), options)
    show(found)
    if options.json is not None:
        given = {key: getattr(options, key) for key in ("rows", "seconds", "rounds", "threads")}
        measured = environment(torch.device("cpu"))
        write(options.json, {"environment": measured, "options": given, **found})
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--rows", type=int, default=100, help="clips")
    made.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        default=(3.0, 25.0),
        metavar=("SHORTEST", "LONGEST"),
        help="lengths of clips, spread evenly",
    )
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--folder", type=Path, help="for the files, 2 MB a clip")
    made.add_argument("--json", type=Path)
    return made


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    os.environ["XDG_CACHE_HOME"] = str(folder / "index")
    names, hours = write_corpus(folder, options.rows, options.seconds)
    for dtype in CACHES:
        Cache(manifest=str(folder / "m.jsonl"), output=folder / dtype, dtype=dtype, workers=1)(say)
    caches = {dtype: WhisperCache(folder=folder / dtype) for dtype in CACHES}
    for name in names:
        torch.save(live(folder, name), folder / f"{name}.pt")
    readers: dict[str, Callable[[str], Tensor]] = {
        CACHES["bf16"]: caches["bf16"],
        CACHES["float32"]: caches["float32"],
        PT: lambda name: torch.load(folder / f"{name}.pt", weights_only=True),
        LIVE: lambda name: live(folder, name),
    }
    for name in names:
        wanted = live(folder, name)
        for label, read in readers.items():
            assert torch.equal(read(name), wanted.to(read(name).dtype)), (label, name)
    timings = compare(
        {label: every(names, read) for label, read in readers.items()},
        rounds=options.rounds,
        device=torch.device("cpu"),
    )
    sizes = {CACHES[dtype]: folder_bytes(folder / dtype, "*.safetensors") for dtype in CACHES}
    sizes |= {PT: folder_bytes(folder, "*.pt"), LIVE: folder_bytes(folder, "*.wav")}
    rows = {
        label: {
            "ms_a_clip": 1000 * timing.median / len(names),
            "cpu_ms_a_clip": 1000 * float(np.median(timing.cpu_seconds)) / len(names),
            "mb_per_hour": sizes[label] / 1e6 / hours,
            "times_faster_than_pt": timings[PT].median / timing.median,
            "timing": timing,
        }
        for label, timing in timings.items()
    }
    return {"hours": hours, "readers": rows}


def write_corpus(folder: Path, rows: int, seconds: tuple[float, float]) -> tuple[list[str], float]:
    """Write clips and their manifest; return the ids of the clips and their hours."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(*seconds, rows)
    names = [f"clip{number:05d}" for number in range(rows)]
    lines = []
    for name, length in zip(names, lengths, strict=True):
        audio = 0.1 * rng.standard_normal(round(SAMPLE_RATE * length))
        soundfile.write(folder / f"{name}.wav", audio, SAMPLE_RATE)
        lines.append(json.dumps({"audio_filepath": f"{name}.wav", "id": name}))
    (folder / "m.jsonl").write_text("\n".join(lines) + "\n")
    return names, float(lengths.sum()) / 3600


def every(names: list[str], read: Callable[[str], Tensor]) -> Callable[[], object]:
    """Return a step that reads all clips, in another order each time."""
    order = np.random.default_rng(0)

    def step() -> None:
        for index in order.permutation(len(names)):
            read(names[index])

    return step


_extractor = WhisperFeatures()


def live(folder: Path, name: str) -> Tensor:
    """Return the features of a clip, contiguous as a collator would stack them."""
    audio, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
    return _extractor(torch.from_numpy(audio)).contiguous()


def folder_bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def show(found: dict[str, Any]) -> None:
    rows = [
        (
            label,
            f"{row['ms_a_clip']:.3f}",
            f"{row['cpu_ms_a_clip']:.3f}",
            f"{row['times_faster_than_pt']:.2f}",
            f"{row['mb_per_hour']:.1f}",
        )
        for label, row in found["readers"].items()
    ]
    columns = [
        "features from",
        "ms a clip",
        "cpu ms a clip",
        "times faster\nthan .pt",
        "MB an hour",
    ]
    print_table(f"features of {found['hours']:.2f} h of audio", columns, rows)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
