"""What one case of the kernels' benchmark is, and how it is measured."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Timing, compare, print_table
from kernels.dispatch import Backend, interpreting, obstacle

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to compute a case.

    Args:
        step: forward and backward pass; returns what the case names as its outputs.
        canonical: brings outputs of another layout into that of the reference.
    """

    step: Callable[[], Tensors]
    canonical: Callable[[Tensors], Tensors] = tuple


@dataclass(frozen=True, kw_only=True)
class Case:
    """Ways to compute the same from the same inputs.

    Args:
        name: shape, dtype and device included.
        outputs: names of what a step returns.
        baseline: the variant that others are compared with.
        variants: by name; ours are called after their backend.
        reference: the outputs in float64, or None if they are too large.
        left_out: variants that do not run, and why.
        steps: time steps, for a time per step; 0 without.
        timed: whether speed and memory are measured, or only errors.
    """

    name: str
    outputs: tuple[str, ...]
    baseline: str
    variants: Mapping[str, Variant]
    reference: Callable[[], Tensors] | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    timed: bool = True


def our_backends(device: torch.device) -> tuple[list[Backend], dict[str, str]]:
    """Return the backends to measure on a device, and why others are left out."""
    left_out = {}
    if interpreting():
        left_out["triton"] = "TRITON_INTERPRET=1: an interpreter's speed says nothing"
    elif found := obstacle("triton", device):
        left_out["triton"] = found
    return ["torch"] if left_out else ["torch", "triton"], left_out


def captured(step: Callable[[], Tensors]) -> Callable[[], Tensors]:
    """Return a step that replays a CUDA graph of this one: what the kernels take, no launches.

    The graph keeps its memory, which is therefore not in the peak of a step.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()

    def replay() -> Tensors:
        graph.replay()
        return outputs

    return replay


def fits(count: int, device: torch.device) -> bool:
    """Say whether ``count`` bytes can be had for a reference or a wasteful variant."""
    if device.type == "cuda":
        return count < 0.4 * torch.cuda.get_device_properties(device).total_memory
    return count < 2**31


def measure(
    case: Case, *, rounds: int, device: torch.device, sample_seconds: float
) -> dict[str, Any]:
    """Return the record of a case: errors and repeatability of all variants, then their speed."""
    variants = _errors(case)
    if case.timed:
        gc.collect()
        steps = {name: variant.step for name, variant in case.variants.items()}
        timings = compare(steps, rounds=rounds, device=device, sample_seconds=sample_seconds)
        for name, timing in timings.items():
            variants[name] |= _figures(timing, timings[case.baseline], variants[name], case.steps)
    return {
        "baseline": case.baseline,
        "reference": "float64" if case.reference else "too large",
        "left_out": dict(case.left_out),
        "variants": variants,
    }


def _errors(case: Case) -> dict[str, dict[str, Any]]:
    expected = case.reference() if case.reference else None
    records: dict[str, dict[str, Any]] = {}
    for name, variant in case.variants.items():
        # Copies, for a graph writes to the same memory each time.
        outputs, again = (tuple(x.clone() for x in variant.step()) for _ in range(2))
        record: dict[str, Any] = {
            "output_mib": sum(x.numel() * x.element_size() for x in outputs) / 2**20,
            "bit_equal": all(torch.equal(x, y) for x, y in zip(outputs, again, strict=True)),
        }
        if expected is not None:
            found = variant.canonical(outputs)
            record["errors"] = {
                label: _error(x, y)
                for label, x, y in zip(case.outputs, found, expected, strict=True)
            }
        records[name] = record
    return records


def _error(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Return the error's norm relative to the expected one's, and the largest error."""
    if not found.is_floating_point():
        return {"share_different": (found != expected).double().mean().item()}
    error = found.double() - expected
    return {
        "relative": (error.norm() / expected.norm()).item(),
        "largest": error.abs().max().item(),
    }


def _figures(timing: Timing, base: Timing, record: Mapping[str, Any], steps: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "median_s": timing.median,
        "lowest_s": timing.lowest,
        "highest_s": timing.highest,
        "seconds": timing.seconds,
        "cpu_median_s": statistics.median(timing.cpu_seconds),
        "time_ratio": timing.median / base.median,
        "peak_mib": timing.peak_mib,
        "peak_above_outputs_mib": timing.peak_mib - record["output_mib"],
    }
    if steps:
        figures["us_per_step"] = timing.median / steps * 1e6
    return figures


def show(name: str, record: Mapping[str, Any]) -> None:
    """Print a case's table; errors are those of gradients, posteriors or ids."""
    base = record["baseline"]
    columns = ["variant", "median ms", "lowest", "highest", f"/ {base}"]
    columns += ["peak MiB", "above outputs", "error", "largest", "two runs"]
    rows = []
    for variant, figures in record["variants"].items():
        found = figures.get("errors", {})
        errors = [error for label, error in found.items() if not label.startswith("loss")]
        rows.append(
            [
                variant,
                *(_cell(figures, key, 1e3, ".3f") for key in ("median_s", "lowest_s", "highest_s")),
                _cell(figures, "time_ratio", 1, ".3f"),
                *(_cell(figures, key, 1, ".0f") for key in ("peak_mib", "peak_above_outputs_mib")),
                _largest(errors, "relative"),
                _largest(errors, "largest"),
                "bit-equal" if figures["bit_equal"] else "differ",
            ]
        )
    print_table(name, columns, rows)
    for variant, reason in record["left_out"].items():
        print(f"  left out: {variant}: {reason}", flush=True)


def _cell(figures: Mapping[str, Any], key: str, scale: float, form: str) -> str:
    return format(scale * figures[key], form) if key in figures else "-"


def _largest(errors: list[Mapping[str, float]], kind: str) -> str:
    """Return the largest error over the outputs; of ids the share that differs."""
    values = [error.get(kind, error.get("share_different", 0.0)) for error in errors]
    return f"{max(values):.1e}" if values else "-"
