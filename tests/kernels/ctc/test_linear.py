"""The driver of the fused projection: what it allocates, and the rows that it visits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels.ctc import linear
from kernels.ctc.engine import Engine
from kernels.ctc.torch import ENGINE
from tests.kernels.ctc.drivers import StepwiseEngine, make_batch, make_options
from tests.kernels.ctc.oracles import Example, gradients, make_example, relative_error, unfused

CPU = torch.device("cpu")


def run(
    example: Example, engine: Engine = ENGINE, *, known: bool = True, **changes: Any
) -> tuple[Tensor, linear.Gradients]:
    options = make_options(**changes)
    batch = make_batch(example, options, known=known)
    projection = linear.Projection.of(*example.projection, example.hidden.dtype, batch.padding)
    sums = linear.Gradients.zeros(projection, hidden=True, weight=True, bias=True)
    scale = torch.ones(batch.shape[0], dtype=example.hidden.dtype)
    losses = linear.losses_and_gradients(engine, batch, projection, options, scale, sums)
    return losses, sums


@pytest.mark.parametrize("chunk_bytes", [None, 6 * 11 * 8])
@pytest.mark.parametrize("engine", [ENGINE, StepwiseEngine()])
@pytest.mark.parametrize(
    "terms", [{}, {"label_smoothing": 0.1, "entropy_bonus": 0.2, "consistency": 0.3}]
)
def test_frames_of_padding_are_visited_if_the_host_does_not_know_them(
    engine: Engine, terms: dict[str, float], chunk_bytes: int | None
) -> None:
    example = make_example(
        CPU,
        input_lengths=(5, 3, 0, 5, 3, 0),
        target_lengths=(2, 1, 0, 2, 1, 0),
        dtype=torch.float64,
    )
    example.targets[3:] = example.targets[:3]
    with torch.no_grad():
        example.hidden[1, 3:] = torch.nan
        example.hidden[2] = torch.inf
    changes = {"chunk_bytes": chunk_bytes, **terms}
    losses, sums = run(example, engine, known=False, **changes)
    clean = torch.where(example.hidden.isfinite(), example.hidden.detach(), 0.0)
    leaves = (clean.requires_grad_(), *example.projection[1:])
    logits = leaves[0] @ leaves[1].T + leaves[2]
    expected = unfused(logits, *example.labels, reduction="none", **terms)
    assert relative_error(losses, expected) < 1e-12
    for found, wanted in zip(sums, gradients(expected.sum(), leaves), strict=True):
        assert found is not None
        assert relative_error(found.view(wanted.shape), wanted) < 1e-10


def test_batches_of_known_and_unknown_lengths_agree() -> None:
    example = make_example(CPU, input_lengths=(6, 2, 2, 5), target_lengths=(2, 3, 2, 2))
    for zero_infinity in (False, True):
        known, unknown = (
            run(example, known=known, zero_infinity=zero_infinity) for known in (True, False)
        )
        torch.testing.assert_close(known[0], unknown[0], rtol=1e-6, atol=0)
        for one, other in zip(known[1], unknown[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)


class _Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return result


@pytest.mark.parametrize("terms", [{}, {"label_smoothing": 0.1, "entropy_bonus": 0.2}])
def test_no_tensor_is_larger_than_a_chunk(terms: dict[str, float]) -> None:
    example = make_example(CPU, input_lengths=(40, 30), target_lengths=(4, 3), classes=500, width=4)
    budget = 10 * 500
    with _Largest() as largest:
        run(example, chunk_bytes=4 * budget, **terms)
    assert largest.numel <= budget
    with _Largest() as largest:
        run(example)
    assert largest.numel == 70 * 500


def test_repeats_that_are_spread_over_all_classes_change_nothing() -> None:
    example = make_example(CPU, input_lengths=(7, 6, 5), target_lengths=(3, 0, 2))
    example.targets[0, :3] = 1
    batch = make_batch(example, make_options(), known=True)
    classes = example.projection[1].shape[0]
    values = torch.randn(*batch.columns.shape, 3).masked_fill(batch.repeated.unsqueeze(2), 0.0)
    expected = torch.zeros(classes, 3).index_put((batch.columns,), values, accumulate=True)
    places = linear.spread_repeats(batch, classes)
    found = torch.zeros(classes, 3).index_put((places,), values, accumulate=True)
    torch.testing.assert_close(found, expected)
    assert (places == 0).sum() < (batch.columns == 0).sum()
