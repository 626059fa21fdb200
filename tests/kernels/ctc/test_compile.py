"""The ops in the eyes of the compiler: schemas, fakes, full graphs, recompilation, capture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.ctc import ctc_loss, linear_ctc_loss
from kernels.ctc.arguments import Labels
from kernels.ctc.concatenated import pad_targets
from kernels.ctc.dense_ops import gradient_of_logits, losses_of_logits
from kernels.ctc.engine import Terms
from kernels.ctc.linear_ops import gradients_alone, losses_alone, reduced_loss
from kernels.ctc.options import Options
from tests.kernels.ctc.oracles import Example, gradients, make_example, relative_error


def flat(backend: str) -> tuple[list[float], str]:
    return Options(
        terms=Terms(label_smoothing=0.1),
        reduction="mean",
        zero_infinity=False,
        validate=None,
        chunk_bytes=None,
        backend=backend,
    ).flat()


def tiny(device: torch.device) -> Example:
    return make_example(device, input_lengths=(4, 3), target_lengths=(2, 1))


def test_opcheck(fast_backend: str, device: torch.device) -> None:
    example, options = tiny(device), flat(fast_backend)
    inputs = (*example.projection, *example.labels, torch.float32)
    needed = [True, True, True]
    torch.library.opcheck(reduced_loss, (*inputs, needed, *options))
    torch.library.opcheck(losses_alone, (*inputs, *options))
    detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)
    weights = torch.ones(2, device=device)
    torch.library.opcheck(gradients_alone, (weights, *detached, needed, *options))
    frozen = (detached[0], detached[1], None, *detached[3:])
    torch.library.opcheck(gradients_alone, (weights, *frozen, [True, False, False], *options))
    logits = example.logits.detach()
    leaf = logits.clone().requires_grad_()
    torch.library.opcheck(losses_of_logits, (leaf, *example.labels, True, *options))
    impossible = torch.zeros(2, dtype=torch.bool, device=device)
    columns = torch.randn(2, 4, 3, device=device)
    torch.library.opcheck(
        gradient_of_logits, (weights, impossible, columns, logits, *example.labels, *options)
    )


def test_opcheck_of_padding(device: torch.device) -> None:
    lengths = torch.tensor([2, 0, 1], device=device)
    torch.library.opcheck(pad_targets, (torch.tensor([5, 6, 7], device=device), lengths))


class _Counting:
    """A compiler that counts the graphs it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(module, inputs)


def compiled(function: Any, backend: Any = "aot_eager") -> Any:
    torch._dynamo.reset()
    return torch.compile(function, backend=backend, fullgraph=True)


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("autocast", [False, True])
def test_full_graph(
    fast_backend: str, device: torch.device, reduction: str, autocast: bool
) -> None:
    example = tiny(device)

    def losses(hidden: Tensor, weight: Tensor, bias: Tensor, *labels: Tensor) -> Tensor:
        options: dict[str, Any] = {"reduction": reduction, "backend": fast_backend}
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            fused = linear_ctc_loss(
                hidden, weight, bias, *labels, with_utterance_losses=True, **options
            )
            dense = ctc_loss(hidden @ weight.T, *labels, entropy_bonus=0.1, **options)
        return fused.loss.sum() * 2 + fused.losses.sum() + dense.sum()

    eager = losses(*example.projection, *example.labels)
    traced = compiled(losses)(*example.projection, *example.labels)
    assert relative_error(traced, eager) < 1e-6
    pairs = zip(
        gradients(traced, example.projection), gradients(eager, example.projection), strict=True
    )
    for found, wanted in pairs:
        assert relative_error(found, wanted) < 1e-6


@pytest.mark.slow
def test_inductor(device: torch.device) -> None:
    example = tiny(device)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor, *labels: Tensor) -> Tensor:
        return linear_ctc_loss(hidden.tanh(), weight, bias, *labels, backend="torch")

    eager = loss(*example.projection, *example.labels)
    traced = compiled(loss, "inductor")(*example.projection, *example.labels)
    assert relative_error(traced, eager) < 1e-5
    pairs = zip(
        gradients(traced, example.projection), gradients(eager, example.projection), strict=True
    )
    for found, wanted in pairs:
        assert relative_error(found, wanted) < 1e-5


def test_concatenated_targets_in_a_full_graph(device: torch.device) -> None:
    example = tiny(device)
    targets = torch.tensor([3, 4, 5], device=device)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor, *labels: Tensor) -> Tensor:
        options: dict[str, Any] = {"backend": "torch"}
        dense = ctc_loss(hidden @ weight.T, *labels, **options)
        return linear_ctc_loss(hidden, weight, bias, *labels, **options) + dense

    labels = (targets, *example.labels[1:])
    found = compiled(loss)(*example.projection, *labels)
    assert relative_error(found, loss(*example.projection, *labels)) < 1e-6


def test_no_recompilation_when_sizes_change(fast_backend: str, device: torch.device) -> None:
    counting = _Counting()

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor, *labels: Tensor) -> Tensor:
        options: dict[str, Any] = {"backend": fast_backend}
        fused = linear_ctc_loss(hidden, weight, bias, *labels, **options)
        return fused + ctc_loss(hidden @ weight.T, *labels, **options)

    traced = compiled(loss, counting)
    for input_lengths, target_lengths in (
        ((4, 3), (2, 1)),
        ((5, 5, 2), (3, 2, 0)),
        ((6, 2, 3, 2), (1, 4, 2, 0)),
        ((3, 7), (1, 3)),
    ):
        example = make_example(device, input_lengths=input_lengths, target_lengths=target_lengths)
        found = traced(*example.projection, *example.labels)
        expected = loss(*example.projection, *example.labels)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        found.backward()
    assert counting.graphs <= 2


def test_errors_come_through_a_graph(device: torch.device) -> None:
    example = tiny(device)
    example.targets[0, 0] = 99

    def loss(hidden: Tensor) -> Tensor:
        projection = example.projection[1:]
        return linear_ctc_loss(hidden, *projection, *example.labels, backend="torch", validate=True)

    with pytest.raises(Exception, match="label 99 at position 0 of utterance 0"):
        compiled(loss)(example.hidden)


def test_fakes_have_the_right_shapes(device: torch.device) -> None:
    example = tiny(device)
    meta = [part.detach().to("meta") for part in (*example.projection, *example.labels)]
    options = flat("torch")
    loss, losses, *grads = reduced_loss(*meta, torch.bfloat16, [True, False, True], *options)
    assert (loss.shape, losses.shape) == ((), (2,))
    assert [tuple(grad.shape) for grad in grads] == [(2, 4, 8), (0,), (11,)]
    assert {x.dtype for x in (loss, losses, *grads)} == {torch.float32}
    assert Labels._fields == ("targets", "input_lengths", "target_lengths")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_graph_capture(fast_backend: str, device: torch.device, reduction: str) -> None:
    example = make_example(device)

    def step() -> list[Tensor]:
        loss = linear_ctc_loss(
            *example.projection, *example.labels, reduction=reduction, backend=fast_backend
        )
        return [loss, *torch.autograd.grad(loss.sum(), example.projection)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            expected = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    for found, wanted in zip(captured, expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("lengths", ["host", "device"])
def test_the_host_does_not_wait(
    fast_backend: str, device: torch.device, reduction: str, lengths: str
) -> None:
    example = make_example(device)
    labels = example.labels
    if lengths == "host":
        labels = (labels[0], labels[1].cpu(), labels[2].cpu())

    def step() -> None:
        for loss in (
            linear_ctc_loss(
                *example.projection, *labels, reduction=reduction, backend=fast_backend
            ),
            ctc_loss(example.logits, *labels, reduction=reduction, backend=fast_backend),
        ):
            torch.autograd.grad(loss.sum(), example.hidden)

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
