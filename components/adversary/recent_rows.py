"""The rows of the last steps, for classifiers that are to learn more than one batch holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecentRows(nn.Module):
    """A ring of vectors with their classes; all it remembers is in buffers.

    Args:
        size: rows to remember.
    """

    vectors: Tensor
    classes: Tensor
    written: Tensor

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("classes", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    def setup(self, *, dim: int) -> None:
        """Make room for vectors of ``dim`` numbers."""
        self.register_buffer("vectors", torch.zeros(self.size, dim))

    @torch.no_grad()
    def push(self, vectors: Tensor, classes: Tensor) -> None:
        """Take in (R, D) vectors and (R,) classes; the oldest rows give way."""
        vectors, classes = vectors[-self.size :], classes[-self.size :]
        places = (self.written + torch.arange(len(classes), device=classes.device)) % self.size
        self.vectors[places] = vectors.to(self.vectors.dtype)
        self.classes[places] = classes
        self.written += len(classes)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return (R, D) vectors and (R,) classes of what is remembered."""
        filled = min(int(self.written), self.size)
        return self.vectors[:filled], self.classes[:filled]
