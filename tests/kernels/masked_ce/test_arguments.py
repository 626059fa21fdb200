from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore, destroy_process_group, init_process_group

from kernels.errors import KernelInputError
from tests.kernels.masked_ce.examples import Example, example

CPU = torch.device("cpu")


def with_field(**fields: Tensor | None) -> Example:
    return replace(example(CPU), **fields)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (with_field(hidden=torch.zeros(21, 10)), r"hidden is \(21, 10\); expected \(B, T, D\)"),
        (with_field(weight=torch.zeros(37, 10)), r"\(C, V, D\); .* pass weight\[None\]"),
        (with_field(weight=torch.zeros(2, 37, 11)), r"weight is .*; expected \(2, 37, 10\)"),
        (with_field(weight=torch.zeros(2, 0, 10), bias=None), "C and V of at least 1"),
        (with_field(bias=torch.zeros(37)), r"bias is \(37,\); expected \(2, 37\)"),
        (with_field(targets=torch.zeros(3, 7).long()), r"expected \(3, 7, 2\)"),
        (with_field(targets=torch.zeros(3, 7, 2)), "targets are torch.float32; expected"),
        (with_field(mask=torch.ones(3, 8).bool()), r"mask is \(3, 8\); expected \(3, 7\)"),
        (with_field(mask=torch.ones(3, 7).byte()), "mask is torch.uint8; expected torch.bool"),
        (with_field(hidden=torch.zeros(3, 7, 10).long()), "hidden is torch.int64"),
        (with_field(hidden=torch.zeros(3, 7, 10).half()), "expected one dtype, or autocast"),
        (with_field(weight=torch.zeros(2, 37, 10, device="meta")), "weight is on meta, hidden"),
    ],
)
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_what_does_not_fit_is_refused(given: Example, message: str, backend: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        given.loss(backend=backend)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("reduction", "average", "reduction is 'average'; expected none, mean or sum"),
        ("max_masked", -1, "max_masked is -1; expected at least 0"),
        ("chunk_bytes", 0, "chunk_bytes is 0; expected at least 1"),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        example(CPU).loss(**{option: value})


def test_float64_is_not_mixed_under_autocast() -> None:
    given = replace(example(CPU), hidden=torch.zeros(3, 7, 10, dtype=torch.float64))
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(KernelInputError, match=r"others than torch\.float64"),
    ):
        given.loss()


def test_a_sharded_weight_is_refused_with_the_way_out() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        given = example(CPU)
        mesh = init_device_mesh("cpu", (1,))
        weight = distribute_tensor(given.weight, mesh, [Shard(1)]).requires_grad_()
        sharded = replace(given, weight=weight)
        with pytest.raises(
            KernelInputError, match=r"weight is a DTensor; pass weight\.full_tensor"
        ):
            sharded.loss()
        replace(given, weight=weight.full_tensor()).loss().loss.backward()
        plain = given.leaves()
        assert torch.equal(weight.grad.full_tensor(), plain.gradients(plain.loss().loss)[1])
    finally:
        destroy_process_group()
