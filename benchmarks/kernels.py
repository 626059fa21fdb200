"""Compare the fused kernels with what the framework offers, forward and backward.

    python -m benchmarks.kernels --device cpu --out cpu.json
    python -m benchmarks.kernels --device cuda --out cuda.json

In one process and on the same inputs, alternatives take turns, so that a loaded machine slows all
alike. Every case prints a table: median and extremes of a step's time, peak memory, the same above
the outputs (loss and gradients), the largest error of an output against float64, relative by norm
and absolute, and whether two runs agree in every bit. On CUDA a short step is repeated for 20 ms
without waiting between, as in training. The last table holds the targets: met, not met, or
unmeasured by this run. The record is written after every case.

Parts: ``ctc`` (projection, softmax and CTC), ``lattice`` (CTC's recursions alone, and the error of
gradients at T=1000), ``masked`` (masked-token prediction), ``quantize`` (its targets). Needs torch,
and on CUDA triton; rich only if it is there.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import torch

from benchmarks import kernels_case, kernels_targets
from benchmarks.common import environment, write

PARTS = ("ctc", "lattice", "masked", "quantize")
SETS = ("quick", "cpu", "table")


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    device = torch.device(options.device)
    record: dict[str, Any] = {
        "set": options.set,
        "rounds": options.rounds,
        "environment": environment(device) | _versions(device),
        "cases": {},
        "targets": kernels_targets.verdicts({}),
    }
    # All at once before anything runs: a part whose op is missing stops the benchmark here.
    parts = [importlib.import_module(f"benchmarks.kernels_{name}") for name in options.only]
    for part in parts:
        for case in part.cases(options.set, device):
            record["cases"][case.name] = kernels_case.measure(
                case,
                rounds=options.rounds,
                device=device,
                sample_seconds=0.02 if device.type == "cuda" else 0.0,
            )
            kernels_case.show(case.name, record["cases"][case.name])
            record["targets"] = kernels_targets.verdicts(record["cases"])
            write(options.out, record)
            # Before the next inputs are made, these go.
            del case
            if device.type == "cuda":
                torch.cuda.empty_cache()
    kernels_targets.show(record["targets"])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--set",
        choices=SETS,
        help="shapes: quick (a few, to try it), cpu or table (CUDA); by default what suits",
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run"
    )
    options = parser.parse_args(arguments)
    kind = torch.device(options.device).type
    if options.set is None:
        options.set = "table" if kind == "cuda" else "cpu"
    if options.set == "table" and kind != "cuda":
        parser.error("--set table has shapes for a GPU; take --set cpu, or --device cuda")
    return options


def _versions(device: torch.device) -> dict[str, Any]:
    """Return what else a GPU's figures depend on."""
    try:
        triton = str(importlib.import_module("triton").__version__)
    except ImportError:
        triton = "none"
    versions: dict[str, Any] = {"triton": triton}
    if device.type == "cuda":
        versions |= {
            "cuda": torch.version.cuda or torch.version.hip,
            "cudnn": torch.backends.cudnn.version(),
            "capability": list(torch.cuda.get_device_capability(device)),
        }
    return versions


if __name__ == "__main__":
    main()
