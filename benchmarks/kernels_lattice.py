"""CTC's lattice alone, per time step, and the error of float32 gradients over long utterances."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels_case import Case, Tensors, Variant, our_backends
from kernels.ctc import ctc_loss
from kernels.ctc.engines import engine_for
from kernels.dispatch import Backend

LATTICES = {
    "quick": [(2, 20, 4)],
    "cpu": [(8, 200, 30)],
    "table": [(32, 400, 30), (32, 400, 60), (32, 1000, 150)],
}
"""(B, T, U) by set."""
PRECISIONS = {
    "quick": [(2, 40, 5, 16, 1.0)],
    "cpu": [(2, 1000, 142, 128, sd) for sd in (1.0, 6.0)],
    "table": [(32, 1000, 142, 128, sd) for sd in (1.0, 6.0)],
}
"""(B, T, U, V, standard deviation of the logits) by set."""


def cases(name: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases of a set: first speed of the lattice, then precision."""
    for sizes in LATTICES[name]:
        yield Lattice(*sizes, device=device).case()
    for batch, frames, labels, vocabulary, deviation in PRECISIONS[name]:
        yield Precision(batch, frames, labels, vocabulary, deviation, device=device).case()


class Lattice:
    """Log-probabilities of an utterance's blank and distinct labels alone: V = U + 1."""

    def __init__(self, batch: int, frames: int, labels: int, *, device: torch.device) -> None:
        self.sizes, self.device = (batch, frames, labels), device
        rng = torch.Generator().manual_seed(0)
        logits = torch.randn(batch, frames, labels + 1, generator=rng)
        self.log_probs = F.log_softmax(logits, dim=-1).to(device)
        self.targets = torch.arange(1, labels + 1, device=device).expand(batch, -1).contiguous()
        self.input_lengths = torch.full((batch,), frames, device=device)
        self.target_lengths = torch.full((batch,), labels, device=device)
        self.first_rows = frames * torch.arange(batch, device=device)

    def case(self) -> Case:
        """Return the alternatives over these inputs."""
        batch, frames, labels = self.sizes
        backends, left_out = our_backends(self.device)
        variants = {
            "native": Variant(
                step=lambda: self._native(self.log_probs), canonical=self._native_posteriors
            )
        }
        for backend in backends:
            variants[backend] = Variant(step=partial(self._ours, backend))
        return Case(
            name=f"{self.device.type} lattice B={batch} T={frames} U={labels} fp32",
            outputs=("losses", "posteriors"),
            baseline="native",
            variants=variants,
            reference=lambda: self._native_posteriors(self._native(self.log_probs.double())),
            left_out=left_out,
            steps=frames,
        )

    def _native(self, log_probs: Tensor) -> Tensors:
        leaf = log_probs.transpose(0, 1).detach().requires_grad_()
        losses = F.ctc_loss(
            leaf, self.targets, self.input_lengths, self.target_lengths, reduction="none"
        )
        return losses.detach(), *torch.autograd.grad(losses.sum(), leaf)

    def _native_posteriors(self, outputs: Tensors) -> Tensors:
        """The framework's gradient is probability minus posterior."""
        losses, grad = outputs
        posteriors = self.log_probs.to(grad.dtype).exp() - grad.transpose(0, 1)
        return losses, posteriors.flatten(0, 1)

    def _ours(self, backend: Backend) -> Tensors:
        engine = engine_for("ctc_loss", backend, self.device, self.targets.shape[1])
        losses, posteriors = engine.lattice(
            self.log_probs.flatten(0, 1),
            self.first_rows,
            self.targets,
            self.input_lengths,
            self.target_lengths,
            posteriors=True,
            max_frames=self.sizes[1],
        )
        assert posteriors is not None
        return losses, posteriors


class Precision:
    """Gradients with respect to logits, which no matrix product has touched."""

    def __init__(
        self,
        batch: int,
        frames: int,
        labels: int,
        vocabulary: int,
        deviation: float,
        *,
        device: torch.device,
    ) -> None:
        self.name = (
            f"{device.type} gradient B={batch} T={frames} U={labels} V={vocabulary} "
            f"logit sd {deviation:g} fp32"
        )
        self.device = device
        rng = torch.Generator().manual_seed(0)
        self.logits = (deviation * torch.randn(batch, frames, vocabulary, generator=rng)).to(device)
        targets = torch.randint(1, vocabulary, (batch, labels), generator=rng)
        self.arguments = (
            targets.to(device),
            torch.full((batch,), frames, device=device),
            torch.full((batch,), labels, device=device),
        )

    def case(self) -> Case:
        """Return the alternatives over these inputs."""
        backends, left_out = our_backends(self.device)
        variants = {"native": Variant(step=lambda: self._native(self.logits))}
        for backend in backends:
            variants[backend] = Variant(step=partial(self._ours, backend))
        return Case(
            name=self.name,
            outputs=("loss", "logits"),
            baseline="native",
            variants=variants,
            reference=lambda: self._native(self.logits.double()),
            left_out=left_out,
            timed=False,
        )

    def _native(self, logits: Tensor) -> Tensors:
        leaf = logits.detach().requires_grad_()
        log_probs = F.log_softmax(leaf, dim=-1).transpose(0, 1)
        loss = F.ctc_loss(log_probs, *self.arguments, reduction="sum")
        return loss.detach(), *torch.autograd.grad(loss, leaf)

    def _ours(self, backend: Backend) -> Tensors:
        leaf = self.logits.detach().requires_grad_()
        loss = ctc_loss(leaf, *self.arguments, reduction="sum", backend=backend)
        assert isinstance(loss, Tensor)
        return loss.detach(), *torch.autograd.grad(loss, leaf)
