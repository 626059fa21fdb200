"""Targets of self-supervised learning without learning them."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from core.registry import register
from kernels.dispatch import choose
from kernels.errors import BackendError
from kernels.quantize import random_projection_targets


@register("quantizer", "random_projection")
class RandomProjectionQuantizer(nn.Module):
    """Frozen random projections and codebooks (BEST-RQ, Chiu et al. 2022, equation 1).

    ``stack`` neighbouring frames become one vector, the bins of the first frame first. Each
    codebook has a projection of its own; the target is the code nearest to the projected vector,
    both of unit length. By Euclidean distance and by cosine that is the same code, so there is no
    choice between them. Ids are those of float64 arithmetic under any precision of training.

    Frames that are all padding hold zeros and get id 0; they are never counted by a loss.

    Args:
        num_books: codebooks C.
        codebook_size: codes V of each.
        code_dim: width K of a code.
        stack: frames behind one target; the encoder's subsampling.
        input_norm: ``layer_norm`` normalises each stacked vector first, without parameters, as NEST
            v2 does; NEST v1 does not.
        backend: of the search; see :func:`kernels.quantize.random_projection_targets`.
    """

    projection: nn.Parameter
    codebooks: nn.Parameter

    def __init__(
        self,
        *,
        num_books: int = 1,
        codebook_size: int = 8192,
        code_dim: int = 16,
        stack: int = 8,
        input_norm: Literal["none", "layer_norm"] = "none",
        backend: Literal["auto", "reference", "torch", "triton"] = "auto",
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_books", num_books),
            ("codebook_size", codebook_size),
            ("code_dim", code_dim),
            ("stack", stack),
        ):
            if value < 1:
                raise ConfigError(f"random_projection: {name} must be at least 1, found {value}")
        self.num_books = num_books
        self.codebook_size = codebook_size
        self.code_dim = code_dim
        self.stack = stack
        self.input_norm = input_norm
        self.backend = backend
        self.register_parameter("projection", None)
        self.register_parameter("codebooks", None)

    def setup(self, *, input_dim: int) -> None:
        """Draw projections (Xavier-normal) and codes (directions uniform on the sphere).

        Args:
            input_dim: feature bins F.
        """
        width = input_dim * self.stack
        deviation = math.sqrt(2.0 / (width + self.num_books * self.code_dim))
        projection = torch.randn(self.num_books, width, self.code_dim) * deviation
        codes = torch.randn(self.num_books, self.codebook_size, self.code_dim, dtype=torch.float64)
        self.projection = nn.Parameter(projection, requires_grad=False)
        self.codebooks = nn.Parameter(F.normalize(codes, dim=-1), requires_grad=False)

    def describe(self, device: torch.device) -> str:
        """Return which implementation runs on a device and why. Raises ConfigError."""
        try:
            choice = choose("random_projection_targets", self.backend, device)
        except BackendError as error:
            raise ConfigError(f"quantizer backend: {error}") from error
        return f"random_projection_targets, backend {choice}"

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Return targets, (B, ceil(T / stack), C) int64 ids.

        Args:
            features: (B, T, F) clean, unmasked and normalised; zeros complete the last stack.
        """
        missing = -features.shape[1] % self.stack
        stacked = F.pad(features, (0, 0, 0, missing)).unflatten(1, (-1, self.stack)).flatten(2)
        if self.input_norm == "layer_norm":
            stacked = F.layer_norm(stacked.float(), stacked.shape[-1:])
        return random_projection_targets(
            stacked, self.projection, self.codebooks, backend=self.backend
        )
