"""The driver of logits where the host does not know the lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.ctc import dense
from kernels.ctc.engine import Engine
from kernels.ctc.torch import ENGINE
from tests.kernels.ctc.drivers import StepwiseEngine, make_batch, make_options
from tests.kernels.ctc.oracles import gradients, make_example, relative_error, unfused


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("chunk_bytes", [None, 4 * 11 * 8])
@pytest.mark.parametrize("engine", [ENGINE, StepwiseEngine()])
@pytest.mark.parametrize("terms", [{}, {"label_smoothing": 0.1, "consistency": 0.3}])
def test_padding_of_unknown_lengths(
    engine: Engine, terms: dict[str, Any], chunk_bytes: int | None, time_first: bool
) -> None:
    example = make_example(
        torch.device("cpu"),
        input_lengths=(5, 2, 5, 2),
        target_lengths=(2, 1, 2, 1),
        dtype=torch.float64,
    )
    example.targets[2:] = example.targets[:2]
    clean = example.logits.detach().requires_grad_()
    logits = clean.detach().clone()
    logits[[1, 3], 2:] = torch.nan
    if time_first:
        logits = logits.transpose(0, 1).contiguous().transpose(0, 1)
    options = make_options(chunk_bytes=chunk_bytes, **terms)
    batch = make_batch(example, options, known=False)
    found = dense.forward(engine, batch, logits, options, gradient=True)
    expected = unfused(clean, *example.labels, reduction="none", **terms)
    assert relative_error(found.losses, expected) < 1e-12
    weights = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    grad = dense.backward(engine, batch, logits, found, weights, options)
    (wanted,) = gradients((expected * weights).sum(), [clean])
    assert relative_error(grad, wanted) < 1e-10
    assert not grad[[1, 3], 2:].any()
