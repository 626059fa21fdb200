from __future__ import annotations

import pytest
import torch

from kernels.errors import BackendError
from kernels.gradients import needed_gradients, scaled_gradients, scaled_where_needed


def test_gradients_are_scaled_and_rounded_once(device: torch.device) -> None:
    gradients = [torch.randn(3, 4, device=device), torch.randn(2, device=device).double()]
    factor = torch.tensor(1 / 3, device=device)
    dtypes = [torch.bfloat16, torch.float64]
    narrow, wide = scaled_where_needed("op", factor, gradients, dtypes, [True, True])
    assert narrow is not None
    assert wide is not None
    assert torch.equal(narrow, (gradients[0] * factor).bfloat16())
    assert torch.equal(wide, gradients[1] * factor)


def test_what_is_not_needed_is_not_computed(device: torch.device) -> None:
    gradients = [torch.empty(0, device=device), torch.ones(2, device=device)]
    dtypes = [torch.float32, torch.float64]
    factor = torch.tensor(0.5, device=device)
    missing, found = scaled_where_needed("op", factor, gradients, dtypes, [False, True])
    assert missing is None
    assert found is not None
    assert found.dtype == torch.float64
    assert found.tolist() == [0.5, 0.5]


def test_the_op_keeps_what_it_declares(device: torch.device) -> None:
    gradients = [torch.randn(3, 4, device=device), torch.randn(2, device=device)]
    like = [torch.empty(0, dtype=torch.bfloat16), torch.empty(0)]
    factor = torch.tensor(0.5, device=device)
    torch.library.opcheck(scaled_gradients, ("op", factor, gradients, like))


def test_a_derivative_is_refused_in_the_name_of_the_op(device: torch.device) -> None:
    gradient = torch.randn(3, device=device, requires_grad=True)
    factor = torch.tensor(0.5, device=device)
    (scaled,) = scaled_where_needed("some_loss", factor, [gradient], [torch.float32], [True])
    assert scaled is not None
    with pytest.raises(BackendError, match="some_loss has no second derivative"):
        scaled.sum().backward()


def test_gradients_are_needed_where_autograd_records() -> None:
    leaf, frozen = torch.zeros(1, requires_grad=True), torch.zeros(1)
    assert needed_gradients(leaf, frozen, None) == [True, False, False]
    with torch.no_grad():
        assert needed_gradients(leaf) == [False]
