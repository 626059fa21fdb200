"""Masked-token prediction: NeMo's dense form, masked rows first, and ours."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels_case import Case, Tensors, Variant, fits, our_backends
from kernels.masked_ce import masked_cross_entropy

OUTPUTS = ("loss", "hidden", "weight", "bias")
MASKED = 0.33
SETS = {
    "quick": [(2, 20, 16, 50, 2, "fp32")],
    "cpu": [(8, 200, 256, 8192, c, "fp32") for c in (1, 4)],
    "table": [(32, 250, 512, 8192, c, "bf16") for c in (1, 4, 16)],
}
"""(B, T, D, V, C, precision) by set."""


def cases(name: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases of a set."""
    for sizes in SETS[name]:
        yield Inputs(*sizes, device=device).case()


class Inputs:
    """The tensors of a case and the steps over them."""

    def __init__(
        self,
        batch: int,
        frames: int,
        dim: int,
        vocabulary: int,
        books: int,
        precision: str,
        *,
        device: torch.device,
    ) -> None:
        self.name = (
            f"{device.type} masked B={batch} T={frames} D={dim} V={vocabulary} C={books} "
            f"{precision}"
        )
        self.device, self.low = device, precision == "bf16"
        self.elements = batch * frames * vocabulary * books
        rng = torch.Generator().manual_seed(0)
        hidden = torch.randn(batch, frames, dim, generator=rng)
        weight = torch.randn(books, vocabulary, dim, generator=rng) / dim**0.5
        bias = 0.1 * torch.randn(books, vocabulary, generator=rng)
        targets = torch.randint(vocabulary, (batch, frames, books), generator=rng)
        self.masked = int(MASKED * batch * frames)
        mask = torch.zeros(batch * frames, dtype=torch.bool)
        mask[torch.randperm(batch * frames, generator=rng)[: self.masked]] = True
        self.mask_on_host = mask.view(batch, frames)
        self.mask, self.targets = self.mask_on_host.to(device), targets.to(device)
        self.hidden = hidden.to(device, torch.bfloat16 if self.low else None).requires_grad_()
        self.weight = weight.to(device).requires_grad_()
        self.bias = bias.to(device).requires_grad_()
        # NeMo's decoder has one convolution for all books, whose channel is class * C + book.
        joint = weight.transpose(0, 1).reshape(-1, dim), bias.T.flatten()
        self.joint_weight, self.joint_bias = (x.to(device).requires_grad_() for x in joint)

    def case(self) -> Case:
        """Return the alternatives over these inputs."""
        backends, left_out = our_backends(self.device)
        variants = {
            "native": Variant(step=self._dense, canonical=self._separate),
            "native, masked first": Variant(step=self._masked_first),
        }
        for backend in backends:
            variants |= self._our_variants(backend)
        return Case(
            name=self.name,
            outputs=OUTPUTS,
            baseline="native",
            variants=variants,
            reference=self._reference if fits(4 * 8 * self.elements, self.device) else None,
            left_out=left_out,
        )

    def _our_variants(self, backend: str) -> dict[str, Variant]:
        """Return ours; on CUDA in the three ways in which the number of masked frames is known."""
        if self.device.type == "cpu":
            return {backend: Variant(step=lambda: self._ours(backend, self.mask, None))}
        bound = min(-(-11 * self.masked // 10), self.mask.numel())
        return {
            backend: Variant(step=lambda: self._ours(backend, self.mask, bound)),
            f"{backend}, mask on host": Variant(
                step=lambda: self._ours(backend, self.mask_on_host, None)
            ),
            f"{backend}, no bound": Variant(step=lambda: self._ours(backend, self.mask, None)),
        }

    def _dense(self) -> Tensors:
        """Log-softmax of every frame, (B, T, V, C); then a loop over books picks masked frames."""
        books = len(self.weight)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            logits = F.linear(self.hidden, self.joint_weight, self.joint_bias)
            logits = logits.unflatten(-1, (-1, books))
            log_probs = F.log_softmax(logits, dim=2, dtype=torch.float32)
        total = log_probs.new_zeros(())
        for book in range(books):
            chosen = log_probs[..., book][self.mask]
            total = total + F.nll_loss(chosen, self.targets[..., book][self.mask])
        return _gradients(total / books, (self.hidden, self.joint_weight, self.joint_bias))

    def _separate(self, outputs: Tensors) -> Tensors:
        """Bring gradients of NeMo's layout into ours."""
        loss, hidden, weight, bias = outputs
        books = len(self.weight)
        return (
            loss,
            hidden,
            weight.unflatten(0, (-1, books)).transpose(0, 1),
            bias.unflatten(0, (-1, books)).T,
        )

    def _masked_first(self) -> Tensors:
        """What one writes by hand: pick masked frames, project them, cross-entropy."""
        rows, ids = self.hidden[self.mask], self.targets[self.mask]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            logits = F.linear(rows, self.weight.flatten(0, 1), self.bias.flatten())
        logits = logits.float().view(-1, self.weight.shape[1])
        return self._gradients(F.cross_entropy(logits, ids.flatten()))

    def _ours(self, backend: str, mask: Tensor, max_masked: int | None) -> Tensors:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            loss = masked_cross_entropy(
                self.hidden,
                self.weight,
                self.bias,
                self.targets,
                mask,
                max_masked=max_masked,
                backend=backend,
            )
        assert isinstance(loss, Tensor)
        return self._gradients(loss)

    def _gradients(self, loss: Tensor) -> Tensors:
        return _gradients(loss, (self.hidden, self.weight, self.bias))

    def _reference(self) -> Tensors:
        """Masked rows first, in float64 on the same values."""
        hidden, weight, bias = leaves = tuple(
            leaf.detach().double().requires_grad_()
            for leaf in (self.hidden, self.weight, self.bias)
        )
        logits = F.linear(hidden[self.mask], weight.flatten(0, 1), bias.flatten())
        logits = logits.view(-1, weight.shape[1])
        return _gradients(F.cross_entropy(logits, self.targets[self.mask].flatten()), leaves)


def _gradients(loss: Tensor, leaves: Tensors) -> Tensors:
    return loss.detach(), *torch.autograd.grad(loss, leaves)
