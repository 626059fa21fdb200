"""``python -m benchmarks.manifest_scale``: a pair manifest of millions of rows, from end to end.

Times ``order`` twice, the index cold and warm, and how soon the first batch is there; measures the
memory of each process. The manifest is synthetic: rows of the real schema and size, whose mels are
links to a few real files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

REPO = Path(__file__).resolve().parents[1]
LINKS = 50_000
"""Links that a file may have are limited, on ext4 to 65,000."""
LIMITS = {
    "order, first run": ("seconds", 60.0),
    "order, second run": ("seconds", 60.0),
    "first batch": ("seconds", 15.0),
    "worker": ("pss_mb", 300.0),
}

ORDER = "order, first run", "order, second run"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.probe:
        print(json.dumps(probe(options.folder, options.probe, options.workers)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="manifest-scale-", dir=options.folder))
    try:
        results = measure(folder, options)
    finally:
        shutil.rmtree(folder)
    for line in table(results):
        print(line)
    if options.json is not None:
        # Imported now: torch in this process would tell nothing of the others, and take long.
        import torch

        from benchmarks.common import environment, write

        given = {name: getattr(options, name) for name in ("rows", "share", "workers")}
        measured = environment(torch.device("cpu")) | {"threads": 1}
        found = {"environment": measured, "options": given}
        write(options.json, found | results)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--rows", type=int, default=5_480_000)
    made.add_argument("--share", type=float, default=0.08, help="of the targets that have mel")
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--folder", type=Path, help="for the manifest, 840 bytes a row three times")
    made.add_argument("--json", type=Path)
    made.add_argument("--probe", choices=("index", "batch"), help=argparse.SUPPRESS)
    return made


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    needed = 3 * 900 * options.rows
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{folder}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")
    say("making the manifest")
    write_manifest(folder, options.rows)
    manifest = folder / "pairs.jsonl"
    targets = int(options.rows / 2 * options.share)
    results: dict[str, Any] = {
        "rows": options.rows,
        "bytes": manifest.stat().st_size,
        "mels": targets,
    }
    order = ["-m", "core.prepare", "order", str(manifest)]
    for name, first, last in ((ORDER[0], 0, targets // 2), (ORDER[1], targets // 2, targets)):
        link_mels(folder, options.rows, first, last)
        say(name)
        results[name] = timed(order)
    itself = ["-m", "benchmarks.manifest_scale", "--folder", str(folder)]
    itself += ["--workers", str(options.workers), "--probe"]
    for name in ("index, cold", "index, warm"):
        say(name)
        results[name] = timed([*itself, "index"])
    say("first batch")
    found = timed([*itself, "batch"])
    inner = json.loads(found.pop("output"))
    results["first batch"] = found | {"seconds": inner["first_batch"] - found.pop("began")}
    results["parent"] = inner["parent"]
    results["worker"] = max(inner["workers"], key=lambda each: float(each["rss_mb"]))
    results["without data"] = inner["bare"]
    for name in (*ORDER, "index, cold", "index, warm"):
        results[name].pop("output")
        results[name].pop("began")
    return results


def write_manifest(folder: Path, rows: int) -> None:
    """Write pairs of two prompts a target, about 840 bytes a row, and the arrays they name."""
    arrays = folder / "arrays" / ("x" * 24)
    arrays.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(arrays / "text.npy", rng.integers(2, 12000, 60).astype(np.int32))
    np.save(arrays / "codes.npy", rng.integers(0, 8192, 450).astype(np.int32))
    np.save(arrays / "condition.npy", rng.standard_normal((32, 1280)).astype(np.float32))
    np.save(arrays / "emotion.npy", rng.standard_normal(1280).astype(np.float32))
    base = f"arrays/{'x' * 24}"
    lengths = rng.integers(50, 451, size=4096).tolist()
    speakers = (132_389 * rng.random(65536) ** 3).astype(int).tolist()
    with (folder / "pairs.jsonl").open("w", encoding="utf-8", buffering=1 << 22) as file:
        for row in range(rows):
            target, prompt = f"KO_video{row // 2:012d}_W000123", f"KO_video{row:012d}_W000456"
            speaker = f"KO_video{speakers[row // 2 % 65536]:08d}_SPEAKER_00"
            file.write(
                f'{{"id": "{target}__{prompt}", "speaker": "{speaker}", '
                f'"prompt_id": "{prompt}", "prompt_audio_path": "audio/{prompt}.mp3", '
                f'"prompt_condition_path": "{base}/condition.npy", "prompt_condition_len": 32, '
                f'"prompt_emo_vec_path": "{base}/emotion.npy", "prompt_duration": 8.42, '
                f'"target_id": "{target}", "target_audio_path": "audio/{target}.mp3", '
                f'"target_text": "오늘은 날씨가 좋아서 한강에 나가 한참을 걸었습니다", '
                f'"target_text_ids_path": "{base}/text.npy", "target_text_len": 60, '
                f'"target_codes_path": "{base}/codes.npy", '
                f'"target_code_len": {lengths[row // 2 % 4096]}, '
                f'"target_emo_vec_path": "{base}/emotion.npy", "target_language": "ko"}}\n'
            )


def link_mels(folder: Path, rows: int, first: int, last: int) -> None:
    """Give mel to targets ``first`` to ``last`` of an order that strews them over the manifest."""
    mel = folder / "mel"
    mel.mkdir(exist_ok=True)
    targets = np.random.default_rng(1).permutation(rows // 2)[first:last]
    for number, target in enumerate(targets.tolist()):
        source = folder / f"mel-{first}-{number // LINKS}.npy"
        if number % LINKS == 0:
            np.save(source, np.zeros((775, 80), dtype=np.float32))
        os.link(source, mel / f"KO_video{target:012d}_W000123.npy")


def timed(arguments: list[str]) -> dict[str, Any]:
    """Run Python to its end; return seconds, largest memory, and what it printed last."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments} ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.time() - began,
        "rss_mb": usage.ru_maxrss / 1000,
        "output": output.strip().splitlines()[-1],
        "began": began,
    }


def probe(folder: Path, what: str, workers: int) -> dict[str, Any]:
    """Open the index, or a data module up to its first batch, in this process."""
    from core.data.pairs_index import open_pairs

    manifest = folder / "pairs.jsonl"
    if what == "index":
        return {"rows": len(open_pairs(manifest))}
    from components.datasets.speech_pairs import SpeechPairData
    from core.contracts import RunContext

    bare = memory(os.getpid())
    data = SpeechPairData(
        train=str(manifest), validation={}, test={}, speakers=None, batch_size=16, workers=workers
    )
    data.setup(RunContext(assets=folder / "assets"))
    data.summary()
    batches = iter(data.train_stream())
    batch = next(batches)
    first = time.time()
    for _ in range(20):
        batch = next(batches)
    assert len(batch) == 16
    assert getattr(batch, "mel", None) is not None
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "first_batch": first,
        "bare": bare,
        "parent": memory(os.getpid()),
        "workers": [memory(int(child)) for child in children],
    }


def memory(process: int) -> dict[str, float]:
    """Return resident memory and its share, in MB; ``private`` is what the end would free."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        found[name] = float(value) * 1024 / 1e6
    return {
        "rss_mb": found["Rss:"],
        "pss_mb": found["Pss:"],
        "private_mb": found["Private_Clean:"] + found["Private_Dirty:"],
    }


def table(results: dict[str, Any]) -> list[str]:
    lines = [f"{results['rows']:,} rows, {results['bytes'] / 1e9:.2f} GB, {results['mels']:,} mels"]
    lines.append(f"{'':<20}{'s':>8}{'RSS MB':>9}{'PSS MB':>9}{'own MB':>9}  limit")
    for name, found in results.items():
        if not isinstance(found, dict):
            continue
        cells = [found.get(key) for key in ("seconds", "rss_mb", "pss_mb", "private_mb")]
        limit = f"{LIMITS[name][1]:g} {LIMITS[name][0]}" if name in LIMITS else ""
        numbers = "".join(
            f"{cell:>{width}.1f}" if cell is not None else " " * width
            for cell, width in zip(cells, (8, 9, 9, 9), strict=True)
        )
        lines.append(f"{name:<20}{numbers}  {limit}")
    return lines


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
