"""``python -m benchmarks.feature_cache``: features from the cache, from .pt files, and from audio.

Clips of noise are written as 16-bit WAV. The verb ``cache`` stores their features; the same are
written padded, in float32, as one ``.pt`` file a clip. All three are then read in the same process,
in turns and each time in another order: clip by clip, and in batches, up to the (chunks, 128, 3000)
that the encoder takes. Everything is measured twice, the second time while other processes multiply
matrices. Files are in the page cache, so what is measured is work, not the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

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
PT_HALF = ".pt a clip, padded bf16"
Reader: TypeAlias = Callable[[list[str]], Tensor]
_COMPUTE = """
import torch
torch.set_num_threads(1)
a = torch.randn(512, 512)
print("ready", flush=True)
while True:
    a = torch.tanh(a @ a)
"""
CACHES: dict[StoredDtype, str] = {"bf16": "cache, bf16", "float32": "cache, float32"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    shortest, longest = options.seconds
    if options.rows < 1 or options.batch < 1 or not 0.1 <= shortest <= longest:
        raise SystemExit(
            "expected rows and batch of at least 1 and 0.1 <= SHORTEST <= LONGEST seconds"
        )
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="feature-cache-", dir=options.folder) as name:
        found = measure(Path(name), options)
    show(found)
    if options.json is not None:
        names = ("rows", "seconds", "batch", "beside", "rounds", "threads")
        given = {name: getattr(options, name) for name in names}
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
    made.add_argument("--batch", type=int, default=8, help="clips of a batch")
    made.add_argument("--beside", type=int, default=2, help="processes that compute meanwhile")
    made.add_argument("--rounds", type=int, default=9)
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
        torch.save(live(folder, name).bfloat16(), folder / f"{name}.half.pt")
    readers: dict[str, Reader] = {
        CACHES["bf16"]: caches["bf16"].batch,
        CACHES["float32"]: caches["float32"].batch,
        PT: lambda group: _joined([_load(folder / f"{name}.pt") for name in group]),
        PT_HALF: lambda group: _joined([_load(folder / f"{name}.half.pt") for name in group]),
        LIVE: lambda group: _joined([live(folder, name) for name in group]),
    }
    for name in names:
        wanted = live(folder, name)
        for label, read in readers.items():
            assert torch.equal(read([name]), wanted.to(read([name]).dtype)), (label, name)
    sizes = {CACHES[dtype]: folder_bytes(folder / dtype, "*.safetensors") for dtype in CACHES}
    sizes |= {PT_HALF: folder_bytes(folder, "*.half.pt")}
    sizes |= {
        PT: folder_bytes(folder, "*.pt") - sizes[PT_HALF],
        LIVE: folder_bytes(folder, "*.wav"),
    }
    per_hour = {label: size / 1e6 / hours for label, size in sizes.items()}
    runs = {}
    for beside in dict.fromkeys((0, options.beside)):
        with computing(beside):
            for batch in dict.fromkeys((1, options.batch)):
                label = f"{_clips(batch)} at a time, {beside} processes beside"
                runs[label] = timed(names, readers, batch, options.rounds)
    return {"hours": hours, "mb_per_hour": per_hour, "runs": runs}


def timed(
    names: list[str], readers: dict[str, Reader], batch: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Read all clips with every reader, in turns; return figures by reader."""
    timings = compare(
        {label: every(names, read, batch) for label, read in readers.items()},
        rounds=rounds,
        device=torch.device("cpu"),
    )
    cpu = {label: float(np.median(timing.cpu_seconds)) for label, timing in timings.items()}
    return {
        label: {
            "ms_a_clip": 1000 * timing.median / len(names),
            "cpu_ms_a_clip": 1000 * cpu[label] / len(names),
            "times_faster_than_pt": timings[PT].median / timing.median,
            "cpu_times_faster_than_pt": cpu[PT] / cpu[label],
            "timing": timing,
        }
        for label, timing in timings.items()
    }


@contextmanager
def computing(count: int) -> Iterator[None]:
    """Keep ``count`` processes busy with matrix products."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _COMPUTE], stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


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


def every(names: list[str], read: Reader, batch: int) -> Callable[[], object]:
    """Return a step that reads all clips, in another order each time."""
    order = np.random.default_rng(0)

    def step() -> None:
        mixed = [names[index] for index in order.permutation(len(names))]
        for start in range(0, len(mixed), batch):
            read(mixed[start : start + batch])

    return step


def _load(path: Path) -> Tensor:
    found: Tensor = torch.load(path, weights_only=True)
    return found


def _joined(clips: list[Tensor]) -> Tensor:
    """Return the chunks of clips one after the other, as a collator joins them."""
    return clips[0] if len(clips) == 1 else torch.cat(clips)


_extractor = WhisperFeatures()


def live(folder: Path, name: str) -> Tensor:
    """Return the features of a clip, contiguous as a collator would stack them."""
    audio, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
    return _extractor(torch.from_numpy(audio)).contiguous()


def folder_bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def show(found: dict[str, Any]) -> None:
    columns = [
        "features from",
        "ms a clip",
        "cpu ms a clip",
        "times faster\nthan .pt",
        "by cpu",
        "MB an hour",
    ]
    for title, readers in found["runs"].items():
        rows = [
            (
                label,
                f"{row['ms_a_clip']:.3f}",
                f"{row['cpu_ms_a_clip']:.3f}",
                f"{row['times_faster_than_pt']:.2f}",
                f"{row['cpu_times_faster_than_pt']:.2f}",
                f"{found['mb_per_hour'][label]:.1f}",
            )
            for label, row in readers.items()
        ]
        print_table(f"features of {found['hours']:.2f} h of audio: {title}", columns, rows)


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
