"""A model of a quarter million parameters, none of which is zero."""

from __future__ import annotations

from typing import Any

import torch

from components.models.unified_voice import UnifiedVoice
from core.contracts.noisy import Padded

TINY: dict[str, Any] = {
    "dim": 64,
    "layers": 2,
    "heads": 2,
    "dropout": 0.0,
    "text_vocab": 64,
    "max_text_tokens": 32,
    "semantic_codes": 128,
    "max_semantic_tokens": 96,
    "num_latents": 4,
    "speaker_features": 16,
    "speaker_dim": 32,
    "speaker_layers": 1,
    "speaker_heads": 2,
    "speaker_feed_forward": 64,
    "emotion_features": 20,
    "emotion_dim": 32,
    "emotion_layers": 2,
    "emotion_heads": 2,
    "emotion_feed_forward": 64,
    "emotion_perceiver_dim": 48,
    "perceiver_head_dim": 16,
}


def make_model(*, seed: int = 5, scale: float = 0.2, **options: Any) -> UnifiedVoice:
    """Return a model whose every parameter is random: what is initialised to zero or one too."""
    torch.manual_seed(seed)
    model = UnifiedVoice(**(TINY | options))
    model.setup()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model


def padded(*rows: list[int], beyond: int = 0) -> Padded:
    """Return rows of ids as a batch."""
    longest = max(map(len, rows))
    values = [[*row, *[beyond] * (longest - len(row))] for row in rows]
    return Padded(values=torch.tensor(values), lengths=torch.tensor([len(row) for row in rows]))
