"""How many codes the targets really use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DECAY = 0.99
"""Weight that the histogram keeps at each batch: about the last hundred batches matter."""


class CodebookUse(nn.Module):
    """Perplexity of targets: ``exp`` of the entropy of a decaying histogram, averaged over books.

    As many codes in equal use would be as hard to guess. One batch alone has far fewer frames than
    a codebook has codes, so the histogram runs over batches; it is saved with the model, so that a
    resumed run reports what an uninterrupted one would.
    """

    histogram: Tensor

    def setup(self, *, num_books: int, codebook_size: int) -> None:
        """Start an empty histogram (C, V)."""
        self.register_buffer("histogram", torch.zeros(num_books, codebook_size))

    @torch.no_grad()
    def update(self, targets: Tensor, valid: Tensor) -> None:
        """Count a batch.

        Args:
            targets: (B, T, C) int64 ids.
            valid: (B, T) bool, the frames to count.
        """
        books, size = self.histogram.shape
        offsets = torch.arange(books, device=targets.device) * size
        flat = (targets + offsets).flatten(0, 1)  # (B T, C)
        weights = valid.flatten().to(self.histogram.dtype).unsqueeze(1).expand_as(flat)
        self.histogram.mul_(DECAY).view(-1).index_add_(0, flat.flatten(), weights.flatten())

    def perplexity(self) -> Tensor:
        """Return the perplexity, between 1 and V; 1 before any target was counted."""
        total = self.histogram.sum(1, keepdim=True)
        shares = self.histogram / total.clamp(min=1e-12)
        entropy = -torch.special.xlogy(shares, shares).sum(1)
        perplexity: Tensor = entropy.exp().mean()
        return perplexity
