"""Chunks of features through the frozen encoder, up to where the projector begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from components.speech_llm.base import Base, Precision, load_base
from components.speech_llm.families import FRAMES, Family
from components.speech_llm.quantization import Quantization
from components.speech_llm.rows import chunk_frames, frame_mask, require_chunks


def row_width(model: Any, family: Family) -> int:  # noqa: ANN401
    """Return W, the width of the rows that the projector takes."""
    first = model.get_submodule(family.projector).get_submodule(family.first_linear)
    return int(first.in_features)


@torch.no_grad()
def encode_chunks(
    model: Any,  # noqa: ANN401
    family: Family,
    features: Tensor,
    *,
    chunks: Sequence[int] | None = None,
    samples: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Map (C, 128, 3000) features to (C, R, W) rows in the encoder's dtype.

    One chunk at a time, so that what a chunk gives never depends on what is beside it: rows that
    were stored are those of training, bit for bit. What that costs on a GPU is not measured.

    Args:
        model: of transformers.
        family: that it is of.
        features: in any floating dtype.
        chunks: of each utterance; None for one each.
        samples: of audio behind each utterance, at 16 kHz.

    Raises:
        DataError: the family needs to know where the audio ends, and is not told.
    """
    counts = [1] * features.shape[0] if chunks is None else chunks
    require_chunks(counts, family)
    masks: Tensor | None = None
    if family.masked:
        masks = frame_mask(chunk_frames(counts, samples, family), features.device)
    tower, width = model.model.audio_tower, row_width(model, family)
    dtype = next(p.dtype for p in tower.parameters() if p.is_floating_point())
    rows = family.rows_of(FRAMES) if family.rows_of is not None else None
    found: list[Tensor] = []
    with torch.autocast(features.device.type, enabled=False):
        for chunk, part in enumerate(features.to(dtype).split(1)):
            extra = {} if masks is None else {"input_features_mask": masks[chunk : chunk + 1]}
            made = tower(part, **extra).last_hidden_state.reshape(-1, width)
            missing = 0 if rows is None else rows - made.shape[0]
            found.append(torch.nn.functional.pad(made, (0, 0, 0, missing)))
    return torch.stack(found)


class FrozenEncoder:
    """The encoder of a base model alone, to be run once over a corpus.

    Args:
        base: folder, or id on the hub.
        quantization: of its linear layers.
        dtype: of what is not quantised.
        device: to compute on.
    """

    def __init__(
        self,
        *,
        base: str,
        quantization: Quantization = "nf4",
        dtype: Precision = "bf16",
        device: torch.device | None = None,
    ) -> None:
        loaded: Base = load_base(base, quantization=quantization, dtype=dtype)
        self.family = loaded.family
        self.device = device if device is not None else torch.device("cpu")
        del loaded.model.model.language_model, loaded.model.lm_head
        self._model = loaded.model.to(self.device)

    @property
    def width(self) -> int:
        """Width of a row."""
        return row_width(self._model, self.family)

    def __call__(
        self,
        features: Tensor,
        *,
        chunks: Sequence[int] | None = None,
        samples: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """Map (C, 128, 3000) features to (C, R, W) rows; see :func:`encode_chunks`."""
        moved = features.to(self.device)
        return encode_chunks(self._model, self.family, moved, chunks=chunks, samples=samples)
