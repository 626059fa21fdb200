from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.adversary.gradient_reversal import GradientReversal, reverse_gradient
from components.adversary.lambda_schedules import ConstantLambda, LinearLambda


def gradient(x: Tensor, factor: Tensor | None) -> Tensor:
    """Return the gradient of a non-linear loss at ``x``, behind a reversal if there is a factor."""
    leaf = x.detach().requires_grad_()
    shown = leaf if factor is None else reverse_gradient(leaf, factor)
    (torch.sin(shown) * shown.exp()).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0, 3.0])
def test_the_gradient_is_multiplied_once_by_minus_the_factor(factor: float) -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    reversed_ = gradient(x, torch.tensor(factor, dtype=torch.float64))
    assert torch.equal(reversed_, -factor * gradient(x, None))


def test_forward_is_the_identity() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(reverse_gradient(x, torch.tensor(0.7)), x)


def test_finite_differences_agree_where_the_reversal_is_the_identity_of_both_passes() -> None:
    # With factor -1 the backward pass is that of the forward one, so both orders can be checked.
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    minus_one = torch.tensor(-1.0, dtype=torch.float64)

    def function(value: Tensor) -> Tensor:
        return reverse_gradient(value, minus_one).pow(3)

    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))


def test_two_reversals_multiply_twice() -> None:
    x = torch.ones(2, requires_grad=True)
    half = torch.tensor(0.5)
    reverse_gradient(reverse_gradient(x, half), half).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full((2,), 0.25))


def test_no_gradient_reaches_the_factor() -> None:
    x = torch.ones(2, requires_grad=True)
    factor = torch.tensor(0.5, requires_grad=True)
    reverse_gradient(x, factor).sum().backward()
    assert factor.grad is None


def test_under_autocast_the_gradient_keeps_its_dtype_and_value() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    grads: list[Tensor] = []
    for factor in (None, torch.tensor(0.5)):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = layer(torch.ones(2, 8))
            assert hidden.dtype == torch.bfloat16
            shown = hidden if factor is None else reverse_gradient(hidden, factor)
            assert shown.dtype == torch.bfloat16
            total = shown.float().square().sum()
        total.backward()
        assert layer.weight.grad is not None
        grads.append(layer.weight.grad.clone())
    assert torch.equal(grads[1], -0.5 * grads[0])  # A power of two: exact in bfloat16.


def test_compiled_once_it_follows_the_buffer() -> None:
    compilations: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        compilations.append(graph)
        return graph.forward

    reversal = GradientReversal(schedule=LinearLambda(value=1.0, ramp_steps=4))

    @torch.compile(backend=backend, fullgraph=True)
    def function(x: Tensor) -> Tensor:
        total: Tensor = (reversal(x) * 3.0).sum()
        return total

    seen = []
    for _ in range(4):
        x = torch.ones(2, requires_grad=True)
        function(x).backward()
        assert x.grad is not None
        seen.append(float(x.grad[0]))
        reversal.advance()
    assert seen == [0.0, -0.75, -1.5, -2.25]
    assert len(compilations) == 1


def test_a_number_for_the_factor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"scalar tensor, such as a buffer; got 0\.5"):
        reverse_gradient(torch.ones(1), 0.5)  # type: ignore[arg-type]


def test_steps_begin_at_zero_wait_and_survive_a_restart() -> None:
    def make() -> GradientReversal:
        return GradientReversal(schedule=LinearLambda(value=2.0, ramp_steps=4), delay=2)

    reversal = make()
    seen = [float(reversal.factor)]
    for _ in range(7):
        reversal.advance()
        seen.append(float(reversal.factor))
    assert seen == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]

    first = make()
    for _ in range(4):
        first.advance()
    second = make()
    second.load_state_dict(first.state_dict())
    assert float(second.factor) == 1.0  # Already before the first step of the resumed run.
    second.advance()
    assert (int(second.step), float(second.factor)) == (5, 1.5)


def test_the_factor_of_a_loaded_step_is_that_of_the_present_schedule() -> None:
    old = GradientReversal(schedule=LinearLambda(value=1.0, ramp_steps=4))
    for _ in range(3):
        old.advance()
    twin = GradientReversal(schedule=LinearLambda(value=0.0, ramp_steps=4))
    twin.load_state_dict(old.state_dict())
    assert int(twin.step) == 3
    assert float(twin.factor) == 0.0


def test_a_new_run_starts_with_zero_whatever_the_schedule() -> None:
    assert float(GradientReversal(schedule=ConstantLambda(value=1.0)).factor) == 0.0
