from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.kernels.offline import ROOT, Report, compile_all

KERNELS = "tests.kernels.ctc.offline_kernels"
# Instructions of a step by neighbours in a lane: without and with states of the other direction.
STEP_LIMITS = {1: (45, 50), 2: (70, 80), 4: (120, 140), 8: (235, 265)}


def _number(report: Report, name: str) -> int:
    found = re.search(rf"\b{name}=(\d+)", report.label)
    assert found
    return int(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_every_configuration_compiles_without_spills(capability: int) -> None:
    reports = compile_all(KERNELS, (capability,))
    assert {report.kernel for report in reports} == {"sweep", "finish", "measure", "put"}
    spilled = [f"{report}: {report.local_bytes} bytes" for report in reports if report.local_bytes]
    assert not spilled


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_one_warp_of_the_lattice_has_no_barrier(capability: int) -> None:
    sweeps = [r for r in compile_all(KERNELS, (capability,)) if r.kernel == "sweep"]
    alone = [report for report in sweeps if _number(report, "lanes") == 32]
    assert {_number(report, "K") for report in alone} == {1, 2, 4, 8}
    for report in alone:
        assert "BAR" not in report.opcodes, report
        assert report.shared_bytes == 0, report


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_a_step_is_one_shift_and_four_powers_a_label(capability: int) -> None:
    seen = 0
    for report in compile_all(KERNELS, (capability,)):
        if report.kernel != "sweep" or _number(report, "lanes") > 32 or "fp64" in report.label:
            continue
        k, depth = _number(report, "K"), _number(report, "depth")
        steps = [loop for loop in report.loops if loop.get("MUFU") == 4 * k * depth]
        assert len(steps) == 2, report  # forward and backward
        limit = STEP_LIMITS[k][_number(report, "join")]
        for loop in steps:
            # Five more at most find the maximum over lanes, once in so many steps.
            assert depth <= loop["SHFL"] <= depth + 5, report
            assert sum(loop.values()) <= limit * depth, f"{report}: {loop}"
        seen += 1
    assert seen == 12


def test_rows_are_read_by_vectors() -> None:
    """Sixteen bytes an access where the number of classes allows it."""
    for report in compile_all(KERNELS, (90,)):
        if report.kernel == "measure" and report.label.startswith(("V=5000 ", "V=32000 ")):
            each = _number(report, "block") // _number(report, "warps") // 32
            assert report.opcodes["LDG"] < each, report


def test_what_changes_between_batches_compiles_nothing_anew() -> None:
    """All integers that a launch gets are kept from specialization."""
    program = (
        f"from {KERNELS} import VARIANTS\n"
        "for v in VARIANTS:\n"
        "    for p in v.kernel.params:\n"
        "        if v.arguments.get(p.name, '*')[0] != '*' and not p.do_not_specialize:\n"
        "            print(v.kernel.__name__, p.name)\n"
        "print('done', len(VARIANTS))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"done \d+\n", done.stdout), done.stdout
