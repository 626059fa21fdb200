"""Targets of the random-projection quantiser: NeMo's distances, chunked products, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels_case import Case, Tensors, Variant, fits, our_backends
from kernels.dispatch import Backend
from kernels.quantize import random_projection_targets

CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**27}
SETS = {
    "quick": [(30, 16, 8, 50, 2)],
    "cpu": [(1600, 640, 16, 8192, c) for c in (1, 4)],
    "table": [(8000, 640, 16, 8192, c) for c in (1, 4, 16)],
}
"""(N, F, K, V, C) by set."""


def cases(name: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases of a set."""
    for sizes in SETS[name]:
        yield Inputs(*sizes, device=device).case()


class Inputs:
    """The tensors of a case and the steps over them."""

    def __init__(
        self, rows: int, dim: int, code_dim: int, size: int, books: int, *, device: torch.device
    ) -> None:
        self.name = f"{device.type} quantize N={rows} F={dim} K={code_dim} V={size} C={books} fp32"
        self.device = device
        rng = torch.Generator().manual_seed(0)
        self.features = torch.randn(rows, dim, generator=rng).to(device)
        projection = torch.randn(books, dim, code_dim, generator=rng)
        self.projection = ((2 / (dim + code_dim)) ** 0.5 * projection).to(device)
        codebooks = torch.randn(books, size, code_dim, generator=rng)
        self.codebooks = F.normalize(codebooks, dim=-1).to(device)
        self.double_codebooks = self.codebooks.double()

    def case(self) -> Case:
        """Return the alternatives over these inputs."""
        backends, left_out = our_backends(self.device)
        rows, books = len(self.features), len(self.codebooks)
        variants = {}
        if fits(8 * rows * self.codebooks.numel(), self.device):
            variants["NeMo's distances"] = Variant(step=self._distances)
        else:
            left_out["NeMo's distances"] = f"{8 * rows * self.codebooks.numel() / 2**30:.0f} GiB"
        variants["chunked products"] = Variant(step=self._products)
        for backend in backends:
            variants[backend] = Variant(step=partial(self._ours, backend))
        return Case(
            name=self.name,
            outputs=("ids",),
            baseline=next(iter(variants)),
            variants=variants,
            reference=self._reference
            if fits(8 * rows * books * self.codebooks.shape[1], self.device)
            else None,
            left_out=left_out,
        )

    def _points(self) -> Tensor:
        """(N, C, K) normalised projections in float32."""
        matrix = self.projection.transpose(0, 1).flatten(1)
        points = (self.features @ matrix).unflatten(-1, (len(self.projection), -1))
        return F.normalize(points, dim=-1)

    def _distances(self) -> Tensors:
        """Differences from all codes in float64, (N, C, V, K), as NeMo 2.7 computes them."""
        differences = self._points().unsqueeze(2) - self.double_codebooks
        return (torch.linalg.vector_norm(differences, dim=-1).argmin(-1),)

    def _products(self) -> Tensors:
        """Dot products in float32 by chunks of rows."""
        books, size, _ = self.codebooks.shape
        points = self._points()
        rows = CHUNK_BYTES[self.device.type] // (4 * size)
        ids = [
            torch.stack([(chunk[:, c] @ self.codebooks[c].T).argmax(-1) for c in range(books)], -1)
            for chunk in points.split(rows)
        ]
        return (torch.cat(ids),)

    def _ours(self, backend: Backend) -> Tensors:
        return (
            random_projection_targets(
                self.features, self.projection, self.codebooks, backend=backend
            ),
        )

    def _reference(self) -> Tensors:
        """All similarities in float64."""
        points = torch.einsum("nf,cfk->nck", self.features.double(), self.projection.double())
        return (torch.einsum("nck,cvk->ncv", points, self.double_codebooks).argmax(-1),)
