"""A speaker classifier on one vector an utterance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.contracts import UNMAPPED
from core.errors import ConfigError
from core.registry import register


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerScore:
    """How well speakers were told apart.

    Args:
        total: scalar, cross-entropy summed over mapped rows, differentiable.
        count: scalar int64, mapped rows.
        hits: scalar int64, mapped rows whose speaker was the first choice.
        predictions: (B,) int64 first choices, also of unmapped rows.
    """

    total: Tensor
    count: Tensor
    hits: Tensor
    predictions: Tensor


@register("classifier", "speaker")
class SpeakerClassifier(nn.Module):
    """Linear, ReLU, dropout, linear; in float32 whatever the precision of the run.

    Weights are drawn Xavier-uniform (Glorot and Bengio 2010), biases are zero.

    Args:
        hidden: width between the layers.
        dropout: share of hidden units that is dropped while the classifier learns.
        label_smoothing: share of the target that is spread over all speakers.
    """

    def __init__(
        self, *, hidden: int = 512, dropout: float = 0.3, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if hidden < 1:
            raise ConfigError(f"classifier/speaker: hidden must be at least 1, but is {hidden}")
        for name, value in (("dropout", dropout), ("label_smoothing", label_smoothing)):
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"classifier/speaker: {name} must lie in [0, 1), but is {value}")
        self.hidden = hidden
        self.dropout = dropout
        self.label_smoothing = label_smoothing

    def setup(self, *, input_dim: int, num_speakers: int) -> None:
        """Create the layers; called once, before weights are loaded."""
        if num_speakers < 2:
            raise ConfigError(
                f"classifier/speaker: {num_speakers} speaker(s) cannot be told apart; at least 2 "
                "are needed"
            )
        self.input = nn.Linear(input_dim, self.hidden)
        self.output = nn.Linear(self.hidden, num_speakers)
        self.reset()

    @property
    def num_speakers(self) -> int:
        """Number of classes."""
        return self.output.out_features

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, on the CPU, so that they are the same on every device."""
        for layer in (self.input, self.output):
            drawn = torch.empty(layer.weight.shape)
            if not layer.weight.is_meta:
                nn.init.xavier_uniform_(drawn, generator=generator)
                layer.weight.copy_(drawn)
                layer.bias.zero_()

    def forward(self, emotion: Tensor, *, learning: bool = False) -> Tensor:
        """Map (B, D) to (B, N) float32 logits; dropout only where it is ``learning``."""
        with torch.autocast(emotion.device.type, enabled=False):
            hidden = F.relu(self.input(emotion.float()))
            hidden = F.dropout(hidden, self.dropout, training=learning)
            logits: Tensor = self.output(hidden)
        return logits

    def score(
        self,
        emotion: Tensor,
        speakers: Tensor,
        *,
        learning: bool = False,
        stop_at_chance: bool = False,
    ) -> SpeakerScore:
        """Compare with (B,) speakers; rows that are ``UNMAPPED`` count for nothing.

        With ``stop_at_chance``, rows whose cross-entropy is that of a guess, ln N, or higher, give
        no gradient; their value counts as ever.

        Without a mapped row the total is a zero whose gradient, zero as well, reaches every
        parameter and ``emotion``, so that accumulation and gradient reduction stay in step.
        """
        logits = self(emotion, learning=learning)
        losses = F.cross_entropy(
            logits,
            speakers,
            ignore_index=UNMAPPED,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        if stop_at_chance:
            losses = torch.where(losses < math.log(self.num_speakers), losses, losses.detach())
        predictions = logits.detach().argmax(1)
        return SpeakerScore(
            total=losses.sum(),
            count=(speakers != UNMAPPED).sum(),
            hits=(predictions == speakers).sum(),
            predictions=predictions,
        )
