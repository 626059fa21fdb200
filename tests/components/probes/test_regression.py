from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.probes.fitting import Kind
from components.probes.regression import train_regression_probe
from core.errors import DataError


def noise(rows: int, dimensions: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_what_is_there_is_found_and_what_is_not_is_not(kind: Kind) -> None:
    features = noise(2000, 10)
    pitch = features @ noise(10, 1, seed=1) * 40.0 + 120.0
    targets = torch.cat([pitch, noise(2000, 1, seed=2)], dim=1)
    result = train_regression_probe(features, targets, names=("pitch", "rate"), kind=kind)
    found = result.by_target()
    assert found["pitch"] > 0.95
    assert found["rate"] == pytest.approx(0.0, abs=0.05)
    assert result.control[0] < 0.05
    assert result.value == pytest.approx((found["pitch"] + found["rate"]) / 2)
    assert result.seed_interval[0] <= result.value <= result.seed_interval[1]


def test_half_of_the_variance_is_half() -> None:
    features = noise(4000, 1)
    targets = features + noise(4000, 1, seed=3)
    assert train_regression_probe(features, targets, names=("x",)).value == pytest.approx(
        0.5, abs=0.04
    )


def test_only_the_mlp_finds_what_is_not_linear() -> None:
    features = noise(3000, 3)
    targets = features[:, :1].abs()
    linear, mlp = (
        train_regression_probe(features, targets, names=("x",), kind=kind)
        for kind in ("linear", "mlp")
    )
    assert linear.value < 0.05
    assert mlp.value > 0.9


def test_more_dimensions_than_rows() -> None:
    result = train_regression_probe(noise(60, 200), noise(60, 1, seed=5), names=("x",))
    assert result.value < 0.3


def test_names_must_fit() -> None:
    with pytest.raises(DataError, match="2 targets have 1 names: x"):
        train_regression_probe(noise(50, 2), noise(50, 2), names=("x",))
