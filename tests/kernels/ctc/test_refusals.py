"""Arguments that cannot be: each message names what is at fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.ctc import ctc_loss, linear_ctc_loss
from kernels.errors import BackendError, KernelInputError, LabelError
from tests.kernels.ctc.oracles import Example, gradients, make_example


@pytest.fixture
def example(device: torch.device) -> Example:
    return make_example(device)


def linear(example: Example, **options: Any) -> Any:
    return linear_ctc_loss(*example.projection, *example.labels, **options)


@pytest.mark.parametrize("label", [-1, 11, 2**40, 0])
def test_labels(example: Example, backend: str, label: int) -> None:
    example.targets[1, 1] = label
    message = f"label {label} at position 1 of utterance 1: expected a class in \\[0, 11\\) other"
    with pytest.raises(LabelError, match=message):
        linear(example, backend=backend, validate=True)
    with pytest.raises(LabelError, match=message):
        ctc_loss(example.logits, *example.labels, backend=backend, validate=True)


def test_labels_are_looked_at_on_cpu_by_default() -> None:
    example = make_example(torch.device("cpu"))
    example.targets[0, 2] = 99
    with pytest.raises(KernelInputError, match="label 99 at position 2 of utterance 0"):
        linear(example, backend="torch")


@pytest.mark.parametrize("label", [-1, 11, 2**40, 0])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_wrong_labels_that_nobody_looks_at_are_nan(
    example: Example, device: torch.device, label: int, zero_infinity: bool
) -> None:
    example.targets[1, 1] = label
    options = {"validate": False, "zero_infinity": zero_infinity, "backend": "torch"}
    logits = example.logits.detach().requires_grad_()
    for reduction in ("none", "mean"):
        for loss, leaf in (
            (linear(example, reduction=reduction, **options), example.hidden),
            (ctc_loss(logits, *example.labels, reduction=reduction, **options), logits),
        ):
            wanted = [False, True, False] if reduction == "none" else True
            assert loss.isnan().tolist() == wanted
            (grad,) = gradients(loss.sum(), [leaf])
            assert grad[1, :3].isnan().all()
            assert grad[[0, 2]].isfinite().all()


def test_engines_never_see_wrong_labels(example: Example, engine_backend: str) -> None:
    example.targets[1, 1] = 2**40
    loss = linear(example, reduction="none", validate=False, backend=engine_backend)
    assert loss.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("name", "index", "value", "limit"),
    [
        ("input_lengths", 2, 6, "the number of frames 5"),
        ("input_lengths", 0, -1, "the number of frames 5"),
        ("target_lengths", 1, 4, "the width of targets 3"),
        ("target_lengths", 0, -2, "the width of targets 3"),
    ],
)
def test_lengths(
    example: Example, backend: str, name: str, index: int, value: int, limit: str
) -> None:
    lengths = getattr(example, name).tolist()
    lengths[index] = value
    wrong = replace(example, **{name: lengths})
    with pytest.raises(KernelInputError, match=rf"{name}\[{index}\] = {value}: .*{limit}"):
        linear(wrong, backend=backend)
    with pytest.raises(KernelInputError, match=rf"{name}\[{index}\] = {value}: .*{limit}"):
        ctc_loss(example.logits, *wrong.labels, backend=backend, validate=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="lengths on CPU are always looked at")
def test_wrong_lengths_on_the_device_are_nan(example: Example, engine_backend: str) -> None:
    example.input_lengths[0] = 99
    example.target_lengths[1] = -1
    loss = linear(example, reduction="none", backend=engine_backend)
    assert loss.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blank": 11}, r"blank 11: expected a class in \[0, 11\)"),
        ({"blank": -1}, r"blank -1: expected"),
        ({"reduction": "average"}, "reduction 'average': expected one of none, mean"),
        ({"label_smoothing": 1.0}, r"label_smoothing 1.0: expected a value in \[0, 1\)"),
        ({"entropy_bonus": -0.1}, "entropy_bonus -0.1: expected"),
        ({"consistency": float("nan")}, "consistency nan: expected"),
        ({"blank_penalty": float("inf")}, "blank_penalty inf: expected"),
        ({"consistency": 0.1}, "of a batch of 2B; found 3"),
        ({"chunk_bytes": 0}, "chunk_bytes 0: expected at least 1"),
    ],
)
def test_options(example: Example, change: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        linear(example, backend="torch", **change)
    with pytest.raises(KernelInputError, match=message):
        ctc_loss(example.logits, *example.labels, backend="torch", **change)


def test_backends(example: Example) -> None:
    with pytest.raises(BackendError, match="no backend 'cuda'; expected one of"):
        linear(example, backend="cuda")


def test_shapes_and_dtypes(example: Example) -> None:
    hidden, weight, bias = example.projection
    targets, input_lengths, target_lengths = example.labels
    labels = example.labels
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((hidden[0], weight, bias, *labels), r"hidden: expected \(B, T, D\)"),
        ((hidden, weight.T, bias, *labels), r"weight: expected \(V, 8\)"),
        ((hidden, weight, bias[:3], *labels), r"bias: expected \(11,\)"),
        ((hidden, weight, bias, targets[:2], *labels[1:]), r"targets: expected \(3, U\)"),
        ((hidden, weight, bias, targets.float(), *labels[1:]), "targets: expected int32 or int64"),
        (
            (hidden, weight, bias, targets, input_lengths[:2], target_lengths),
            r"input_lengths: expected \(3,\); found \(2,\)",
        ),
        (
            (hidden, weight, bias, targets, input_lengths, target_lengths.float()),
            "target_lengths: expected int32 or int64",
        ),
        ((hidden.double(), weight, bias, *labels), "weight is torch.float32 but hidden is"),
        ((hidden.long(), weight, bias, *labels), "hidden: expected float16"),
    ]
    for arguments, message in cases:
        with pytest.raises(KernelInputError, match=message):
            linear_ctc_loss(*arguments)
    with pytest.raises(KernelInputError, match=r"logits: expected \(B, T, V\), batch first"):
        ctc_loss(example.logits[0], *labels)


def test_float64_is_not_mixed_under_autocast(
    example: Example, device: torch.device, backend: str
) -> None:
    hidden, weight, bias = example.projection
    with torch.autocast(device.type, torch.bfloat16):
        for projection, message in (
            (
                (hidden, weight.double(), bias),
                "weight is torch.float64 but hidden is torch.float32",
            ),
            ((hidden, weight, bias.double()), "bias is torch.float64 but hidden is torch.float32"),
            (
                (hidden.double(), weight, bias),
                "weight is torch.float32 but hidden is torch.float64",
            ),
        ):
            with pytest.raises(KernelInputError, match=message):
                linear_ctc_loss(*projection, *example.labels, backend=backend)


def test_concatenated_targets_that_do_not_add_up(example: Example, backend: str) -> None:
    flat = example.targets.flatten()
    with pytest.raises(KernelInputError, match=r"9 concatenated labels, but .* add up to 5"):
        linear_ctc_loss(
            *example.projection,
            flat,
            example.input_lengths,
            example.target_lengths,
            backend=backend,
        )


def test_devices(example: Example) -> None:
    hidden, weight, bias = example.projection
    elsewhere = torch.device("meta")
    with pytest.raises(KernelInputError, match="weight is on meta but hidden on"):
        linear_ctc_loss(hidden, weight.to(elsewhere), bias, *example.labels)
    with pytest.raises(KernelInputError, match="bias is on meta but hidden on"):
        linear_ctc_loss(hidden, weight, bias.to(elsewhere), *example.labels)
    with pytest.raises(KernelInputError, match="targets is on meta but logits on"):
        ctc_loss(example.logits, example.targets.to(elsewhere), *example.labels[1:])
    with pytest.raises(KernelInputError, match="input_lengths is on meta but hidden on"):
        linear_ctc_loss(
            *example.projection,
            example.targets,
            example.input_lengths.to(elsewhere),
            example.target_lengths,
        )


def test_sharded_tensors(example: Example) -> None:
    distributed = pytest.importorskip("torch.distributed.tensor")

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        sharded = distributed.distribute_tensor(
            example.weight.detach().cpu(), mesh, [distributed.Shard(0)]
        )
        with pytest.raises(KernelInputError, match=r"weight is a DTensor: .* full_tensor\(\)"):
            linear_ctc_loss(example.hidden, sharded, example.bias, *example.labels)
    finally:
        torch.distributed.destroy_process_group()
