from __future__ import annotations

from tests.kernels.offline import CAPABILITIES, compile_all

MODULE = "tests.kernels.masked_ce.offline_kernels"


def test_every_kernel_compiles_without_spilling_registers() -> None:
    reports = compile_all(MODULE)
    assert {report.capability for report in reports} == set(CAPABILITIES)
    assert {report.kernel for report in reports} == {"resident", "streamed"}
    for report in reports:
        assert report.local_bytes == 0, str(report)


def test_a_row_of_8192_classes_leaves_room_for_two_programs_a_multiprocessor() -> None:
    rows = [report for report in compile_all(MODULE) if "V=8192" in report.label]
    for report in rows:
        if "fp64" not in report.label:
            assert report.registers <= 64, str(report)


def test_aligned_rows_are_read_once_and_16_bytes_at_a_time() -> None:
    label = "bf16, V=8192, gradient=True, weighted=False"
    for report in compile_all(MODULE):
        if report.label == label:
            # Two for the row of 16 elements a thread, one each for target and its logit.
            assert report.opcodes["LDG"] == 4, str(report)
