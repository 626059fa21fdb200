"""The figures that the kernels are to reach, and whether a run has measured and reached them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.common import print_table

Records = Mapping[str, Mapping[str, Any]]


class UnmeasuredError(LookupError):
    """The run has no such case or variant."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure and its bound."""

    figure: str
    bound: float
    at_least: bool
    measure: Callable[[Records], float]

    def verdict(self, records: Records) -> dict[str, Any]:
        """Return what was demanded, what was measured, and whether it is met."""
        demanded = f"{'at least' if self.at_least else 'at most'} {self.bound:.3g}"
        try:
            measured = self.measure(records)
        except UnmeasuredError as missing:
            return self._row(demanded, None, f"unmeasured ({missing})")
        met = measured >= self.bound if self.at_least else measured <= self.bound
        return self._row(demanded, measured, "met" if met else "not met")

    def _row(self, demanded: str, measured: float | None, verdict: str) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "demanded": demanded,
            "measured": measured,
            "verdict": verdict,
        }


def _variant(records: Records, case: str, name: str) -> Mapping[str, Any]:
    if case not in records:
        raise UnmeasuredError(f"no case {case!r}")
    variants: Mapping[str, Mapping[str, Any]] = records[case]["variants"]
    if name not in variants:
        raise UnmeasuredError(f"{name} did not run in {case!r}")
    return variants[name]


def _most_time(figure: str, case: str, bound: float) -> Target:
    """Time on CPU over native's."""
    return Target(
        figure=figure,
        bound=bound,
        at_least=False,
        measure=lambda records: float(_variant(records, case, "torch")["time_ratio"]),
    )


def _speedup(figure: str, case: str, bound: float) -> Target:
    """Native's time over that on a GPU."""
    return Target(
        figure=figure,
        bound=bound,
        at_least=True,
        measure=lambda records: 1 / float(_variant(records, case, "triton")["time_ratio"]),
    )


def _memory_ratio(records: Records, case: str) -> float:
    ours, native = (_variant(records, case, name)["peak_mib"] for name in ("torch", "native"))
    return float(ours / native)


def _gigabytes_above(records: Records, case: str) -> float:
    mib = _variant(records, case, "triton")["peak_above_outputs_mib"]
    return float(mib * 2**20 / 1e9)


def _error_ratio(records: Records, *, case: str) -> float:
    native, ours = (
        _variant(records, case, name)["errors"]["logits"]["relative"]
        for name in ("native", "triton")
    )
    return float(native / ours)


def _unequal_runs(records: Records, device: str, backend: str) -> float:
    """Count variants of a backend whose two runs differ in a bit."""
    flags = [
        figures["bit_equal"]
        for case, record in records.items()
        for name, figures in record["variants"].items()
        if case.startswith(device) and name.partition(",")[0] == backend
    ]
    if not flags:
        raise UnmeasuredError(f"{backend} did not run on {device}")
    return float(flags.count(False))


CPU_CTC = "cpu linear_ctc B=8 T=200 U=30 D=256 V={} fp32"
CPU_MASKED = "cpu masked B=8 T=200 D=256 V=8192 C={} fp32"
SHORT = "cuda linear_ctc B=32 T=400 U=60 D=512 V={} bf16"
LONG = "cuda linear_ctc B=32 T=1000 U=150 D=512 V={} bf16"
CUDA_MASKED = "cuda masked B=32 T=250 D=512 V=8192 C={} bf16"
LATTICE = "cuda lattice B=32 T={} U={} fp32"
GRADIENT = "cuda gradient B=32 T=1000 U=142 V=128 logit sd {} fp32"

TARGETS = (
    _most_time("linear CTC on CPU, V=1024: time / native", CPU_CTC.format(1024), 0.85),
    _most_time("linear CTC on CPU, V=5000: time / native", CPU_CTC.format(5000), 0.85),
    Target(
        figure="linear CTC on CPU, V=5000: peak memory / native",
        bound=1 / 3,
        at_least=False,
        measure=lambda records: _memory_ratio(records, CPU_CTC.format(5000)),
    ),
    _most_time("masked loss on CPU, C=1: time / dense", CPU_MASKED.format(1), 0.3),
    _most_time("masked loss on CPU, C=4: time / dense", CPU_MASKED.format(4), 0.2),
    _speedup("linear CTC on GPU, T=400 V=128: native / time", SHORT.format(128), 8),
    _speedup("linear CTC on GPU, T=400 V=1024: native / time", SHORT.format(1024), 5),
    _speedup("linear CTC on GPU, T=400 V=5000: native / time", SHORT.format(5000), 4),
    _speedup("linear CTC on GPU, T=1000 V=32000: native / time", LONG.format(32000), 3),
    Target(
        figure="linear CTC on GPU, T=1000 V=32000: GB above inputs and gradients",
        bound=0.3,
        at_least=False,
        measure=lambda records: _gigabytes_above(records, LONG.format(32000)),
    ),
    _speedup("masked loss on GPU, C=1: dense / time", CUDA_MASKED.format(1), 4),
    _speedup("masked loss on GPU, C=16: dense / time", CUDA_MASKED.format(16), 4),
    _speedup("lattice on GPU, T=400 U=60: native / time per step", LATTICE.format(400, 60), 6),
    _speedup("lattice on GPU, T=1000 U=150: native / time per step", LATTICE.format(1000, 150), 6),
    *(
        Target(
            figure=f"fp32 gradient on GPU, T=1000, logit sd {sd}: native's error / ours",
            bound=20,
            at_least=True,
            measure=partial(_error_ratio, case=GRADIENT.format(sd)),
        )
        for sd in (1, 6)
    ),
    Target(
        figure="triton on GPU: variants whose two runs differ in a bit",
        bound=0,
        at_least=False,
        measure=lambda records: _unequal_runs(records, "cuda", "triton"),
    ),
    Target(
        figure="torch on CPU: variants whose two runs differ in a bit",
        bound=0,
        at_least=False,
        measure=lambda records: _unequal_runs(records, "cpu", "torch"),
    ),
)


def verdicts(records: Records) -> list[dict[str, Any]]:
    """Return a verdict on every target."""
    return [target.verdict(records) for target in TARGETS]


def show(rows: list[dict[str, Any]]) -> None:
    """Print the verdicts."""
    cells = [
        (
            row["figure"],
            row["demanded"],
            "-" if row["measured"] is None else f"{row['measured']:.3g}",
            row["verdict"].partition(" (")[0],
        )
        for row in rows
    ]
    print_table("Targets", ["figure", "demanded", "measured", "verdict"], cells)
