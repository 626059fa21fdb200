from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.masked_ce.driver import Needs, Outcome, Problem, run
from kernels.masked_ce.torch import TorchEngine

FRAMES, BOOKS, VOCABULARY, WIDTH = 11, 3, 50, 8
PRODUCT = FRAMES * BOOKS * VOCABULARY * WIDTH


class Watch(TorchDispatchMode):
    """Counts multiplications of matrices, and elements of the largest tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.multiplications = 0
        self.largest = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            left, right = args[-2:]
            self.multiplications += left.shape[0] * left.shape[1] * right.shape[1]
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def compute(needs: Needs, chunk_bytes: int | None) -> Outcome:
    torch.manual_seed(0)
    problem = Problem(
        hidden=torch.randn(FRAMES, WIDTH),
        weight=torch.randn(BOOKS, VOCABULARY, WIDTH),
        bias=torch.randn(BOOKS, VOCABULARY),
        targets=torch.randint(VOCABULARY, (FRAMES, BOOKS)),
    )
    return run(TorchEngine(), problem, None, needs, chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [None, 1, 50 * 4 * 5, 50 * 4 * 25])
@pytest.mark.parametrize(
    ("needs", "products"),
    [
        (Needs(True, True, True), 3),
        (Needs(True, False, False), 2),
        (Needs(False, True, True), 2),
        (Needs(False, False, True), 1),
        (Needs(False, False, False), 1),
    ],
)
def test_there_are_as_many_products_as_gradients_need(
    needs: Needs, products: int, chunk_bytes: int | None
) -> None:
    with Watch() as watch:
        outcome = compute(needs, chunk_bytes)
    assert watch.multiplications == products * PRODUCT
    assert [bool(x.numel()) for x in outcome[2:]] == list(needs)


def test_no_tensor_of_all_logits_is_made() -> None:
    with Watch() as watch:
        compute(Needs(True, True, True), VOCABULARY * 4 * 5)
    assert watch.largest == BOOKS * VOCABULARY * WIDTH
    assert watch.largest < FRAMES * BOOKS * VOCABULARY
