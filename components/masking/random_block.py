"""Blocks of frames that a model has to fill in from what is around them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.registry import register

SHORT_BLOCK = 8
"""Frames masked at the start of an utterance that is too short for a block."""


@register("masking", "random_block")
class RandomBlockMasking(nn.Module):
    """Masks blocks of frames at random places, as NEST does (Huang et al. 2024, section 2.3).

    Where blocks may overlap, each frame of an utterance of L frames, the last ``block_size`` left
    out, starts a block with probability ``mask_prob``: about ``1 - (1 - mask_prob) ** block_size``
    of a long utterance is masked. Where they may not, ``mask_prob`` is the share of frames to mask,
    in blocks on a grid with a random offset. An utterance of which one block would be
    ``max_mask_ratio`` or more has its first eight frames masked. No frame past a length is.

    The blocks are drawn on the host, as many numbers in the same order as NeMo 2.5 to 2.7 draws
    them, so that a seed of torch gives the same masks.

    Args:
        block_size: frames of a block.
        mask_prob: probability of a start, or share of frames.
        allow_overlap: whether blocks may overlap.
        max_mask_ratio: share of an utterance that one block must stay below.
        freeze: whether what stands in masked frames stays as it was drawn, N(0, 0.1) for each
            bin; otherwise it is learnt.
        hide_all: hide every frame from the model; the drawn blocks still say which frames count. A
            control: what can be predicted without hearing anything.
    """

    embedding: nn.Parameter

    def __init__(
        self,
        *,
        block_size: int = 40,
        mask_prob: float = 0.01,
        allow_overlap: bool = True,
        max_mask_ratio: float = 0.8,
        freeze: bool = True,
        hide_all: bool = False,
    ) -> None:
        super().__init__()
        if block_size < 1:
            raise ConfigError(f"random_block: block_size must be at least 1, found {block_size}")
        for name, value in (("mask_prob", mask_prob), ("max_mask_ratio", max_mask_ratio)):
            if not 0.0 < value <= 1.0:
                raise ConfigError(f"random_block: {name} must be in (0, 1], found {value}")
        self.block_size = block_size
        self.mask_prob = mask_prob
        self.allow_overlap = allow_overlap
        self.max_mask_ratio = max_mask_ratio
        self.freeze = freeze
        self.hide_all = hide_all
        self.register_parameter("embedding", None)

    def setup(self, *, input_dim: int) -> None:
        """Draw what stands in masked frames.

        Args:
            input_dim: feature bins F.
        """
        drawn = torch.randn(input_dim) * 0.1
        self.embedding = nn.Parameter(drawn, requires_grad=not self.freeze)

    def draw(
        self,
        lengths: Tensor,
        *,
        frames: int,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Return which frames are masked, (B, frames) bool, on the host.

        Args:
            lengths: (B,) int64 frame counts, on the host.
            frames: of the padded batch.
            generators: one for each utterance; None for torch's global one.
        """
        mask = torch.zeros(len(lengths), frames, dtype=torch.bool)
        for row, length in enumerate(lengths.tolist()):
            generator = generators[row] if generators is not None else None
            for start, end in self._blocks(length, generator):
                mask[row, start : min(end, length)] = True
        return mask

    def too_short(self, lengths: Tensor) -> Tensor:
        """Say for (B,) frame counts in which utterances no whole block is masked."""
        # In float64, as Python compares one length: a batch in float32 would round some otherwise.
        return self.block_size >= lengths.to(torch.float64) * self.max_mask_ratio

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Replace masked frames.

        Args:
            features: (B, T, F).
            mask: (B, T) bool, on the device of the features.
        """
        if self.hide_all:
            mask = torch.ones_like(mask)
        return torch.where(mask.unsqueeze(-1), self.embedding.to(features.dtype), features)

    def _blocks(self, length: int, generator: torch.Generator | None) -> list[tuple[int, int]]:
        """Return the first frame of each block and the one after its last."""
        if self.too_short(torch.tensor(length)):
            return [(0, SHORT_BLOCK)]
        if self.allow_overlap:
            return self._overlapping(length, generator)
        return self._on_a_grid(length, generator)

    def _overlapping(self, length: int, generator: torch.Generator | None) -> list[tuple[int, int]]:
        places = length - self.block_size
        # A binomial number of distinct places is an independent draw for each of them.
        count = torch.binomial(
            torch.tensor(float(places)), torch.tensor(self.mask_prob), generator=generator
        )
        starts = torch.randperm(places, generator=generator)[: int(count)].tolist()
        return [(start, start + self.block_size) for start in starts]

    def _on_a_grid(self, length: int, generator: torch.Generator | None) -> list[tuple[int, int]]:
        count, size = math.ceil(length * self.mask_prob / self.block_size), self.block_size
        if (count + 1) * size > length:
            size = max(1, length // (count + 1))
        offset = int(torch.randint(0, self.block_size, (1,), generator=generator))
        slots = torch.randperm(length // size - 1, generator=generator)[:count].tolist()
        return [(slot * size + offset, slot * size + offset + size) for slot in slots]
