"""Output projection, softmax and CTC: the framework's ways against ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels_case import Case, Tensors, Variant, captured, fits, our_backends
from kernels.ctc import linear_ctc_loss
from kernels.dispatch import Backend

OUTPUTS = ("loss", "hidden", "weight", "bias")
Head = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a case; every utterance has full length, which favours the padded forms."""

    batch: int
    frames: int
    labels: int
    dim: int
    vocabulary: int
    precision: str = "bf16"

    def __str__(self) -> str:
        return (
            f"B={self.batch} T={self.frames} U={self.labels} D={self.dim} "
            f"V={self.vocabulary} {self.precision}"
        )


SETS = {
    "quick": [Shape(batch=2, frames=20, labels=4, dim=16, vocabulary=40, precision="fp32")],
    "cpu": [
        Shape(batch=8, frames=200, labels=30, dim=256, vocabulary=v, precision="fp32")
        for v in (1024, 5000)
    ],
    "table": [
        *(Shape(batch=32, frames=400, labels=60, dim=512, vocabulary=v) for v in (128, 1024)),
        *(Shape(batch=32, frames=400, labels=60, dim=512, vocabulary=v) for v in (5000, 32000)),
        *(Shape(batch=32, frames=1000, labels=150, dim=512, vocabulary=v) for v in (1024, 5000)),
        Shape(batch=32, frames=1000, labels=150, dim=512, vocabulary=32000),
    ],
}


def cases(name: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases of a set."""
    for shape in SETS[name]:
        yield Inputs(shape, device).case()


class Inputs:
    """The tensors of a case and the steps over them."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.low = shape.precision == "bf16"
        rng = torch.Generator().manual_seed(0)
        hidden = torch.randn(shape.batch, shape.frames, shape.dim, generator=rng)
        weight = torch.randn(shape.vocabulary, shape.dim, generator=rng) / shape.dim**0.5
        bias = 0.1 * torch.randn(shape.vocabulary, generator=rng)
        targets = torch.randint(1, shape.vocabulary, (shape.batch, shape.labels), generator=rng)
        self.hidden = hidden.to(device, torch.bfloat16 if self.low else None).requires_grad_()
        self.weight = weight.to(device).requires_grad_()
        self.bias = bias.to(device).requires_grad_()
        self.targets = targets.to(device)
        self.input_lengths = torch.full((shape.batch,), shape.frames, device=device)
        self.target_lengths = torch.full((shape.batch,), shape.labels, device=device)
        # What torch asks for before it takes cuDNN: labels in one row, int32, all on the host.
        self.flat = targets.flatten().int()
        self.lengths = [shape.frames] * shape.batch, [shape.labels] * shape.batch

    def case(self) -> Case:
        """Return the alternatives over these inputs."""
        backends, left_out = our_backends(self.device)
        variants = {"native": Variant(step=lambda: self._native(_head))}
        if self.device.type == "cuda":
            torch.compiler.reset()
            compiled: Head = torch.compile(_head, dynamic=False)
            variants["native, compiled head"] = Variant(step=lambda: self._native(compiled))
            if self._cudnn_takes_it():
                variants["native, cuDNN form"] = Variant(step=self._cudnn)
            else:
                left_out["native, cuDNN form"] = "torch does not take cuDNN for this"
        for backend in backends:
            variants[backend] = Variant(step=partial(self._ours, backend))
        if "triton" in backends:
            graph = captured(partial(self._ours, "triton"))
            variants["triton, CUDA graph"] = Variant(step=graph)
        elements = self.shape.batch * self.shape.frames * self.shape.vocabulary
        return Case(
            name=f"{self.device.type} linear_ctc {self.shape}",
            outputs=OUTPUTS,
            baseline="native",
            variants=variants,
            reference=self._reference if fits(5 * 8 * elements, self.device) else None,
            left_out=left_out,
        )

    def _native(self, head: Head) -> Tensors:
        """Autocast projection, float32 log-softmax, ``F.ctc_loss`` with padded targets."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            log_probs = head(self.hidden, self.weight, self.bias)
        loss = F.ctc_loss(
            log_probs.transpose(0, 1),
            self.targets,
            self.input_lengths,
            self.target_lengths,
            zero_infinity=True,
        )
        return self._gradients(loss)

    def _cudnn(self) -> Tensors:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            log_probs = _head(self.hidden, self.weight, self.bias)
        # Lengths as integers choose the overload that knows cuDNN; its reduction 1 is the mean.
        loss = torch.ctc_loss(log_probs.transpose(0, 1), self.flat, *self.lengths, 0, 1, True)
        return self._gradients(loss)

    def _cudnn_takes_it(self) -> bool:
        shape = self.shape
        like = torch.zeros(1, device=self.device).expand(
            shape.frames, shape.batch, shape.vocabulary
        )
        return bool(torch._use_cudnn_ctc_loss(like, self.flat, *self.lengths, 0))

    def _ours(self, backend: Backend) -> Tensors:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            loss = linear_ctc_loss(
                self.hidden,
                self.weight,
                self.bias,
                self.targets,
                self.input_lengths,
                self.target_lengths,
                zero_infinity=True,
                backend=backend,
            )
        assert isinstance(loss, Tensor)
        return self._gradients(loss)

    def _gradients(self, loss: Tensor) -> Tensors:
        leaves = (self.hidden, self.weight, self.bias)
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    def _reference(self) -> Tensors:
        """The native form in float64 on the same values."""
        leaves = [
            leaf.detach().double().requires_grad_()
            for leaf in (self.hidden, self.weight, self.bias)
        ]
        log_probs = F.log_softmax(F.linear(*leaves), dim=-1)
        loss = F.ctc_loss(
            log_probs.transpose(0, 1), self.targets, self.input_lengths, self.target_lengths
        )
        return loss.detach(), *torch.autograd.grad(loss, leaves)


def _head(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.log_softmax(F.linear(hidden, weight, bias), dim=-1, dtype=torch.float32)
