"""The float64 reference against brute force, the framework, and numerical differentiation."""

from __future__ import annotations

import itertools

import pytest
import torch

from kernels.ctc import ctc_loss
from tests.kernels.ctc.oracles import brute_force, gradients, make_example, unfused

CASES = [
    (frames, classes, labels)
    for frames, classes in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3), (4, 4))
    for count in range(3)
    for labels in itertools.product(range(1, min(classes, 3)), repeat=count)
    if frames >= count + sum(a == b for a, b in itertools.pairwise(labels))
]


@pytest.mark.parametrize(("frames", "classes", "labels"), CASES)
def test_brute_force(frames: int, classes: int, labels: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(frames + classes)
    logits = torch.randn(frames, classes, generator=generator, dtype=torch.float64) * 2
    logits.requires_grad_()
    expected = brute_force(logits, labels, blank=0)
    targets = torch.tensor(labels, dtype=torch.int64).view(1, -1)
    loss = ctc_loss(
        logits[None], targets, [frames], [len(labels)], reduction="sum", backend="reference"
    )
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    (found,), (wanted,) = (gradients(x, [logits]) for x in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("blank", [0, 4, 10])
def test_the_framework_in_float64(blank: int) -> None:
    example = make_example(
        torch.device("cpu"),
        input_lengths=(30, 12, 25, 1),
        target_lengths=(9, 5, 0, 1),
        blank=blank,
        dtype=torch.float64,
    )
    loss = ctc_loss(example.logits, *example.labels, blank=blank, backend="reference")
    expected = unfused(example.logits, *example.labels, blank=blank)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    pairs = zip(
        gradients(loss, example.projection), gradients(expected, example.projection), strict=True
    )
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)


def test_gradient_and_second_derivative_by_differences() -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1, 1], [2, 0]])

    def loss(values: torch.Tensor) -> torch.Tensor:
        return ctc_loss(
            values,
            targets,
            [4, 3],
            [2, 1],
            backend="reference",
            label_smoothing=0.2,
            entropy_bonus=0.3,
            blank_penalty=0.5,
        )

    assert torch.autograd.gradcheck(loss, (logits,))
    assert torch.autograd.gradgradcheck(loss, (logits,))
