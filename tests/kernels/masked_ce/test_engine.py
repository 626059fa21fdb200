"""Both engines' pass over logits against float64."""

from __future__ import annotations

import pytest
import torch

from kernels.dtypes import accumulation_dtype
from kernels.masked_ce.engine import Engine
from kernels.masked_ce.torch import TorchEngine
from tests.kernels.masked_ce.examples import BACKENDS


def engine(backend: str) -> Engine:
    if backend == "torch":
        return TorchEngine()
    from kernels.masked_ce.triton import TritonEngine

    return TritonEngine()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vocabulary", [1, 31, 64, 1000, 8193])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_it_yields_loss_hit_and_weighted_gradient(
    backend: str, vocabulary: int, dtype: torch.dtype, device: torch.device
) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(4, vocabulary) * 3).to(device, dtype)
    targets = torch.tensor([0, vocabulary - 1, vocabulary // 2, 0], device=device)
    targets[3] = logits[3].argmax()
    weights = torch.tensor([1.0, -2.0, 0.0, 3.0], device=device, dtype=accumulation_dtype(dtype))
    leaf = logits.double().clone().requires_grad_()
    losses = -leaf.log_softmax(1).gather(1, targets[:, None])[:, 0]
    (exact,) = torch.autograd.grad((losses * weights).sum(), leaf)
    exact[2] = 0.0
    hits = logits.argmax(1) == targets
    only = engine(backend).rows(logits.clone(), targets, weights, gradient=False)
    found = engine(backend).rows(logits, targets, weights, gradient=True)
    assert torch.equal(only.losses, found.losses)
    assert torch.equal(only.hits, found.hits)
    assert found.losses.dtype == accumulation_dtype(dtype)
    assert torch.allclose(found.losses.double(), losses, rtol=2e-6, atol=1e-7)
    assert torch.equal(found.hits, hits)
    tolerance = {torch.float16: 1e-3, torch.float32: 3e-6, torch.float64: 1e-12}[dtype]
    assert torch.allclose(logits.double(), exact, rtol=tolerance, atol=6e-8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vocabulary", [40, 8200])
def test_a_certain_target_keeps_its_gradient(
    backend: str, vocabulary: int, device: torch.device
) -> None:
    logits = torch.zeros(3, vocabulary, device=device)
    targets = torch.tensor([3, vocabulary - 1, 7], device=device)
    for row, height in enumerate((20.0, 50.0, 80.0)):
        logits[row, targets[row]] = height
    leaf = logits.double()
    others = (vocabulary - 1) * torch.exp(-leaf.amax(1))
    found = engine(backend).rows(logits, targets, None, gradient=True)
    assert torch.allclose(found.losses.double(), others.log1p(), rtol=1e-5, atol=0.0)
    mine = logits.double().gather(1, targets[:, None])[:, 0]
    assert torch.allclose(mine, -others / (1 + others), rtol=1e-5, atol=0.0)
    assert torch.allclose(logits.double().sum(1), torch.zeros(3).double().to(device), atol=1e-10)


@pytest.mark.filterwarnings("ignore:invalid value|All-NaN:RuntimeWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vocabulary", [40, 8200])
def test_impossible_classes_and_lost_rows(
    backend: str, vocabulary: int, device: torch.device
) -> None:
    logits = torch.zeros(4, vocabulary, device=device)
    logits[0, : vocabulary - 2] = -torch.inf
    logits[1, 0] = -torch.inf
    logits[2, 1] = torch.nan
    logits[3] = torch.nan
    targets = torch.tensor([vocabulary - 1, 0, 0, 2**40], device=device)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
    found = engine(backend).rows(logits, targets, weights, gradient=True)
    assert float(found.losses[0]) == pytest.approx(0.6931472)
    assert logits[0, -3:].tolist() == [0.0, 0.5, -0.5]
    assert found.losses[1] == torch.inf
    assert float(logits[1, 0]) == -1.0
    assert found.losses[2:].isnan().all()
    assert logits[2].isnan().any()
    assert logits[3].eq(0).all()
    assert found.hits.tolist()[:2] == [False, False]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vocabulary", [37, 8193])
@pytest.mark.parametrize("wrong", [-1, -(2**40), 2**40, "V"])
def test_a_target_of_no_class_touches_nothing_else(
    backend: str, vocabulary: int, wrong: int | str, device: torch.device
) -> None:
    guarded = torch.zeros(5, vocabulary, device=device)
    guarded[0] = guarded[4] = 123.0
    target = vocabulary if wrong == "V" else wrong
    targets = torch.tensor([0, target, 1], device=device)
    found = engine(backend).rows(guarded[1:4], targets, None, gradient=True)
    assert found.losses.isnan().tolist() == [False, True, False]
    assert guarded[2].isnan().all()
    assert guarded[[1, 3]].isfinite().all()
    assert guarded[[0, 4]].eq(123.0).all()
