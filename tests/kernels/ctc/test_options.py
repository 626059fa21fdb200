"""The terms beside CTC against unfused equations in float64 with autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.ctc import ctc_loss, linear_ctc_loss
from kernels.ctc.engine import Terms
from kernels.ctc.options import Options
from kernels.errors import KernelInputError
from tests.kernels.ctc.oracles import Example, gradients, make_example, relative_error, unfused

TERMS: list[dict[str, float]] = [
    {"label_smoothing": 0.1},
    {"entropy_bonus": 0.3},
    {"blank_penalty": 1.5},
    {"consistency": 0.7},
    {
        "label_smoothing": 0.1,
        "entropy_bonus": 0.3,
        "blank_penalty": -0.5,
        "consistency": 0.7,
    },
]


def views(device: torch.device, **options: Any) -> Example:
    """Draw two views of two utterances: other frames, but the same labels and lengths."""
    example = make_example(
        device, input_lengths=(4, 2, 4, 2), target_lengths=(3, 1, 3, 1), **options
    )
    return replace(example, targets=example.targets[[0, 1, 0, 1]])


def check(backend: str, example: Example, reduction: str, **options: Any) -> None:
    logits = example.logits.detach().requires_grad_()
    terms = {name: value for name, value in options.items() if name != "chunk_bytes"}
    options = {"backend": backend, "reduction": reduction, **options}
    for loss, scores, leaves in (
        (
            linear_ctc_loss(*example.projection, *example.labels, **options),
            example.logits,
            example.projection,
        ),
        (ctc_loss(logits, *example.labels, **options), logits, (logits,)),
    ):
        expected = unfused(scores, *example.labels, reduction=reduction, **terms)
        assert relative_error(loss, expected) < 1e-5
        weights = torch.linspace(1.0, -0.5, expected.numel(), dtype=torch.float64)
        found = gradients((loss.view(-1) * weights.to(loss)).sum(), leaves)
        wanted = gradients((expected.view(-1) * weights).sum(), leaves)
        for one, other in zip(found, wanted, strict=True):
            assert relative_error(one, other) < 1e-4


@pytest.mark.parametrize("terms", TERMS, ids=lambda terms: "+".join(terms))
def test_terms(backend: str, device: torch.device, terms: dict[str, float]) -> None:
    example = views(device, scale=2.0)
    check(backend, example, "mean", chunk_bytes=5 * 11 * 4, **terms)


@pytest.mark.parametrize("terms", TERMS, ids=lambda terms: "+".join(terms))
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("chunk_bytes", [None, 1])
def test_terms_in_chunks(
    quick_backend: str,
    device: torch.device,
    terms: dict[str, float],
    chunk_bytes: int | None,
    reduction: str,
) -> None:
    example = views(device, scale=2.0)
    check(quick_backend, example, reduction, chunk_bytes=chunk_bytes, **terms)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_all_terms_with_a_confident_model(dtype: torch.dtype) -> None:
    example = views(torch.device("cpu"), scale=12.0, dtype=dtype)
    logits = example.logits.detach().requires_grad_()
    loss = ctc_loss(logits, *example.labels, reduction="sum", backend="torch", **TERMS[-1])
    expected = unfused(logits, *example.labels, reduction="sum", **TERMS[-1])
    limit = 1e-12 if dtype == torch.float64 else 1e-5
    assert relative_error(loss, expected) < limit
    found, wanted = gradients(loss, [logits]), gradients(expected, [logits])
    assert relative_error(found[0], wanted[0]) < 10 * limit


def test_equal_views_have_no_divergence(backend: str, device: torch.device) -> None:
    example = views(device)
    hidden = example.hidden.detach()[[0, 1, 0, 1]].requires_grad_()
    example = replace(example, hidden=hidden)
    losses = [
        linear_ctc_loss(*example.projection, *example.labels, consistency=weight, backend=backend)
        for weight in (0.0, 5.0)
    ]
    assert relative_error(losses[1], losses[0]) < 1e-6
    pairs = zip(*(gradients(loss, example.projection) for loss in losses), strict=True)
    for one, other in pairs:
        assert relative_error(other, one) < 1e-4


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("input_lengths", 2, 3, r"input_lengths\[0\] = 4 but input_lengths\[2\] = 3"),
        ("target_lengths", 3, 2, r"target_lengths\[1\] = 1 but target_lengths\[3\] = 2"),
        ("targets", (2, 2), 1, "at position 2 of utterance 0 but 1 in utterance 2"),
    ],
)
def test_views_that_are_not(
    backend: str, device: torch.device, name: str, index: Any, value: int, message: str
) -> None:
    example = views(device)
    example.targets[[0, 2], 2] = 4
    getattr(example, name)[index] = value
    with pytest.raises(KernelInputError, match=message):
        linear_ctc_loss(
            *example.projection,
            *example.labels,
            consistency=0.5,
            validate=True,
            backend=backend,
        )


def test_views_with_other_labels_that_nobody_looks_at_are_nan(
    engine_backend: str, device: torch.device
) -> None:
    example = views(device)
    example.targets[0, 2] = 1 + int(example.targets[2, 2]) % 10
    loss = linear_ctc_loss(
        *example.projection,
        *example.labels,
        consistency=0.5,
        validate=False,
        reduction="none",
        backend=engine_backend,
    )
    assert loss.isnan().tolist() == [True, False, True, False]


@pytest.mark.parametrize("validate", [None, False, True])
@pytest.mark.parametrize("chunk_bytes", [None, 7])
def test_options_pass_through_an_op_unchanged(
    validate: bool | None, chunk_bytes: int | None
) -> None:
    options = Options(
        terms=Terms(
            blank=3,
            label_smoothing=0.1,
            entropy_bonus=0.2,
            blank_penalty=0.3,
            consistency=0.4,
        ),
        reduction="sum",
        zero_infinity=True,
        validate=validate,
        chunk_bytes=chunk_bytes,
        backend="torch",
    )
    assert Options.from_flat(*options.flat()) == options
