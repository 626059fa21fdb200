from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F

from kernels.quantize.triton import search_options, uncertain
from tests.kernels.offline import compile_all

KERNELS = "tests.kernels.quantize.offline_kernels"


def test_every_configuration_compiles_without_spills() -> None:
    reports = compile_all(KERNELS)
    assert {report.capability for report in reports} == {80, 90, 100}
    assert {report.kernel for report in reports} == {"search_kernel", "settle_kernel"}
    spilled = [f"{report}: {report.local_bytes} bytes" for report in reports if report.local_bytes]
    assert not spilled


def test_the_search_runs_on_tensor_cores() -> None:
    for report in compile_all(KERNELS):
        if report.kernel == "search_kernel":
            unit = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}[report.capability]
            assert report.opcodes.get(unit), f"{report}: {report.opcodes}"


@pytest.mark.parametrize("code_dim", [16, 64])
def test_rows_that_the_search_trusts_are_surely_decided(code_dim: int) -> None:
    """Emulate three products of TF32 halves; the order of a trusted gap must hold in float64."""
    torch.manual_seed(0)
    points = F.normalize(torch.randn(200, code_dim, dtype=torch.float64), dim=-1)
    codes = F.normalize(torch.randn(2000, code_dim, dtype=torch.float64), dim=-1)

    def halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def cut(y: torch.Tensor) -> torch.Tensor:
            return (y.view(torch.int32) & ~0x1FFF).view(torch.float32)

        return cut(x), cut(x - cut(x))

    (p, p_rest), (c, c_rest) = halves(points.float()), halves(codes.float())
    emulated = p_rest @ c.T + p @ c_rest.T + p @ c.T
    error = (emulated.double() - points @ codes.T).abs().max().item()
    assert 0 < 2 * error < uncertain(code_dim) / 4


def test_interpreted_kernels_take_plain_products() -> None:
    expected = "ieee" if os.environ["TRITON_INTERPRET"] == "1" else "tf32x3"
    assert search_options(16)["precision"] == expected
