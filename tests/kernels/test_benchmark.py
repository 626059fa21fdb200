from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kernels_targets

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from benchmarks.kernels import main
main(sys.argv[1:])
"""


def test_every_part_runs_and_its_record_tells_what_is_unmeasured(tmp_path: Path) -> None:
    """In a process of its own: there Triton is not set to interpret, and rich can be missing."""
    out = tmp_path / "kernels.json"
    arguments = ["--device", "cpu", "--set", "quick", "--rounds", "2", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["environment"]["device_name"]
    assert {name.split()[1] for name in record["cases"]} == {
        "linear_ctc", "lattice", "gradient", "masked", "quantize"
    }  # fmt: skip
    for case, found in record["cases"].items():
        assert case in done.stdout
        for variant, figures in found["variants"].items():
            for output, error in figures["errors"].items():
                worst = error.get("relative", error.get("share_different", 0.0))
                assert worst < 1e-4, (case, variant, output)
        assert found["variants"]["torch"]["bit_equal"], case
    verdicts = {row["figure"]: row for row in record["targets"]}
    assert len(verdicts) == len(record["targets"]) >= 17
    repeats = verdicts.pop("torch on CPU: variants whose two runs differ in a bit")
    assert repeats["verdict"] == "met"
    assert all(row["verdict"].startswith("unmeasured") for row in verdicts.values())
    assert all(row["measured"] is None and row["demanded"] for row in verdicts.values())


def records(time_ratio: float, bit_equal: bool) -> dict[str, Any]:
    case = kernels_targets.SHORT.format(128)
    triton = {"time_ratio": time_ratio, "bit_equal": bit_equal}
    return {case: {"variants": {"native": {"bit_equal": False}, "triton": triton}}}


@pytest.mark.parametrize(("time_ratio", "verdict"), [(0.125, "met"), (0.126, "not met")])
def test_a_speedup_is_held_against_its_bound(time_ratio: float, verdict: str) -> None:
    rows = {row["figure"]: row for row in kernels_targets.verdicts(records(time_ratio, True))}
    row = rows["linear CTC on GPU, T=400 V=128: native / time"]
    assert row["measured"] == pytest.approx(1 / time_ratio)
    assert row["demanded"] == "at least 8"
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("bit_equal", "verdict"), [(True, "met"), (False, "not met")])
def test_runs_that_differ_are_counted_for_our_variants_alone(bit_equal: bool, verdict: str) -> None:
    rows = {row["figure"]: row for row in kernels_targets.verdicts(records(0.1, bit_equal))}
    assert rows["triton on GPU: variants whose two runs differ in a bit"]["verdict"] == verdict
