from __future__ import annotations

import pytest
import torch

from kernels.half import HALF_RANGE, half_factor


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_largest_weight_fills_the_range(scale: float) -> None:
    weights = torch.tensor([0.5, -2.0, 1.0]) * scale
    assert (weights * half_factor(weights)).abs().max().item() == pytest.approx(HALF_RANGE)


def test_weights_of_float16_use_its_range() -> None:
    weights = torch.tensor([1e-7, torch.nan, -3e-7])
    factor = half_factor(weights)
    assert float((weights[2] * factor).abs()) == pytest.approx(HALF_RANGE)
    assert float(half_factor(torch.zeros(2))) == 1.0


@pytest.mark.parametrize("lost", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_do_not_count(lost: float) -> None:
    weights = torch.tensor([0.5, lost, 4.0])
    assert half_factor(weights).item() == HALF_RANGE / 4.0
