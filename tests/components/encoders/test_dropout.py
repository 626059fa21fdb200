from __future__ import annotations

import pytest
import torch

from components.encoders.dropout import Dropout, dropout
from core.errors import ConfigError


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.97])
def test_share_mean_and_gradient(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 1001, requires_grad=True)
    y = dropout(x, probability)
    kept = y != 0
    assert 1 - kept.double().mean().item() == pytest.approx(probability, abs=0.003)
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)
    assert y[kept].unique().tolist() == pytest.approx([1 / (1 - probability)], rel=1e-3)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(1 << 20), 0.3) != 0).double() - 0.7
    for lag in (1, 2, 3, 4):
        assert abs((kept[lag:] * kept[:-lag]).mean().item()) < 1e-3


def test_same_seed_gives_the_same_result_and_draws_go_on() -> None:
    torch.manual_seed(1)
    first, second = dropout(torch.ones(99), 0.5), dropout(torch.ones(99), 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(torch.ones(99), 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_shape_and_dtype_stay(dtype: torch.dtype) -> None:
    for shape in ((), (1,), (0, 3), (2, 3, 5)):
        y = dropout(torch.ones(shape, dtype=dtype), 0.2)
        assert (y.shape, y.dtype) == (torch.Size(shape), dtype)


def test_identity_in_evaluation_and_at_probability_zero() -> None:
    x = torch.ones(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_impossible_probability_is_refused(probability: float) -> None:
    with pytest.raises(ConfigError, match="dropout must be in"):
        Dropout(probability)
