from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import products
from kernels.masked_ce import library, masked_cross_entropy
from kernels.masked_ce.torch import TorchEngine
from tests.kernels.masked_ce.examples import BACKENDS, REDUCTIONS, Example, example

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def arguments(given: Example) -> tuple[Any, ...]:
    return given.hidden, given.weight, given.bias, given.targets, given.mask


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("grad", [(True, True, True), (True, False, True)])
def test_the_op_keeps_what_it_declares(
    backend: str, reduction: str, grad: tuple[bool, bool, bool], device: torch.device
) -> None:
    given = example(device).leaves(grad=grad)
    options = (reduction, None, True, None, backend, torch.float32, list(grad))
    torch.library.opcheck(library.forward, (*arguments(given), *options))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("needed", [[True, True, False], [False, False, True]])
def test_the_gradients_op_keeps_what_it_declares(
    bias: bool, needed: list[bool], device: torch.device
) -> None:
    given = example(device, bias=bias)
    if not bias:
        needed = [*needed[:2], False]
    options = (None, None, "torch", torch.float32, needed)
    grad = torch.randn(3, 7, 2, device=device)
    torch.library.opcheck(library.gradient, (grad, *arguments(given), *options))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_it_compiles_whole_and_once_for_all_lengths(reduction: str, device: torch.device) -> None:
    def loss(*tensors: Tensor) -> Tensor:
        hidden, *rest = tensors
        found = masked_cross_entropy(hidden * 2.0, *rest, reduction=reduction, with_statistics=True)
        assert isinstance(found, tuple)
        return found.loss.sum() + found.losses.sum()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss, backend=counter, fullgraph=True)
    for seed, shape in enumerate([(3, 7), (4, 11), (2, 9), (5, 8), (6, 30)]):
        given, same = (
            example(device, shape=shape, masked=0.2 + seed / 8, seed=seed).leaves()
            for _ in range(2)
        )
        found, expected = compiled(*arguments(given)), loss(*arguments(same))
        assert torch.equal(found, expected)
        gradients = [
            torch.autograd.grad(value, (leaves.hidden, leaves.weight, leaves.bias))
            for value, leaves in ((found, given), (expected, same))
        ]
        for one, other in zip(*gradients, strict=True):
            assert torch.equal(one, other)
    # Once for the first shape, once more when B and T turn out to vary.
    assert counter.frame_count <= 2


def test_it_compiles_under_autocast(device: torch.device) -> None:
    torch._dynamo.reset()
    given = example(device)

    def loss(*tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16):
            return masked_cross_entropy(*tensors, backend="torch")

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*arguments(given)), loss(*arguments(given)))


def test_a_gradient_underflows_neither_before_nor_after_a_loss_scale(
    device: torch.device,
) -> None:
    """As float16 parameters with a scaled loss need it: the mean's gradient alone is below 6e-8."""
    given = example(device, shape=(8, 500), vocabulary=40, width=8, masked=2.0)
    half = given.to(torch.float16).leaves()
    exact = half.to(torch.float64).leaves()
    (found, expected) = (x.gradients(x.loss(backend="torch").loss * 2.0**12) for x in (half, exact))
    for one, other in zip(found, expected, strict=True):
        assert ((one - other).norm() / other.norm()) < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("bound", [None, 8])
def test_nothing_on_cuda_depends_on_what_tensors_hold(
    dtype: torch.dtype, reduction: str, bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fake CUDA tensors have no content: an operation that asks for any raises an error."""
    monkeypatch.setattr(library, "_engine", lambda *_: TorchEngine())
    forward, gradient = library.forward._init_fn, library.gradient._init_fn
    needed = [True, True, True]
    with FakeTensorMode():
        empty = functools.partial(torch.empty, device="cuda")
        hidden, weight, bias = empty(3, 7, 16), empty(2, 50, 16), empty(2, 50)
        targets, mask = empty(3, 7, 2, dtype=torch.int64), empty(3, 7, dtype=torch.bool)
        given = (hidden, weight, bias, targets, mask)
        outputs = forward(*given, reduction, bound, False, 4000, "torch", dtype, needed)
        assert all(output.is_cuda for output in outputs)
        assert outputs[0].shape == (targets.shape if reduction == "none" else ())
        grad = empty(3, 7, 2)
        grads = gradient(grad, *given, bound, 4000, "torch", dtype, needed)
        assert [x.shape for x in grads] == [x.shape for x in given[:3]]
    products._adds_wide.cache_clear()  # what holds for fake tensors need not for real ones


@needs_cuda
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_host_never_waits_and_graphs_capture(backend: str, reduction: str) -> None:
    given = example(torch.device("cuda"), width=16).leaves()

    def step() -> list[Tensor]:
        found = given.loss(reduction=reduction, backend=backend, max_masked=16)
        return [found.loss, *given.gradients(found.loss)]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        expected = [step() for _ in range(3)][-1]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    for one, other in zip(captured, expected, strict=True):
        assert torch.equal(one, other)


@needs_cuda
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_on_the_host_gives_the_same(backend: str) -> None:
    given = example(torch.device("cuda")).leaves()
    expected = given.loss(backend=backend).loss
    on_host = Example(**{**vars(given), "mask": given.mask.cpu()})
    assert torch.allclose(on_host.loss(backend=backend).loss, expected)
