"""Training all of a small Voxtral on short clips without computing 30 s of silence each time.

A chunk has room for 30 s, and a clip of two leaves 93 rows of a hundred to silence: the same
constant, told apart by its position alone. Of those rows a few are drawn, and each stands for its
share of all: the logarithm of that share is added to the attention scores of its keys, so that the
softmax sums what it would have summed over all of them, in expectation. Everything else, positions
included, is as in a whole chunk, which the trained weights are then used with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FRAMES_PER_ROW = 8
STATES_PER_ROW = 4
"""Positions of the encoder that the projector takes as one row."""


@dataclass(frozen=True, kw_only=True)
class SampledSilence:
    """Which rows of a chunk are computed.

    Args:
        heard: rows at the beginning that may hold speech; all are computed.
        rows: of a whole chunk.
        drawn: how many of the others are computed.
    """

    heard: int
    rows: int = 375
    drawn: int = 16

    @property
    def frames(self) -> int:
        """Frames of features that are needed: those heard, and some silence after them."""
        return (self.heard + 2) * FRAMES_PER_ROW

    def log_share(self, weight: float = 1.0) -> float:
        """Return the logarithm of the silent rows that each of the drawn ones stands for.

        Args:
            weight: share of the silence that counts; below 1 a chunk is as if it were shorter.
        """
        return math.log(weight * (self.rows - self.heard) / self.drawn)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return (heard + drawn,) numbers of rows: one from each of ``drawn`` equal stretches."""
        silent = self.rows - self.heard
        places = (torch.arange(self.drawn) + torch.rand(self.drawn, generator=generator)) / (
            self.drawn
        )
        later = self.heard + (places * silent).long()
        return torch.cat([torch.arange(self.heard), later])

    def encode(
        self,
        tower: Any,  # noqa: ANN401
        features: Tensor,
        rows: Tensor,
        *,
        weight: float = 1.0,
    ) -> Tensor:
        """Map (B, 128, frames) to (B, N, 4 D) of the rows, as ``tower`` would in a whole chunk.

        Args:
            tower: ``VoxtralEncoder``.
            features: whose last frames are silence.
            rows: (N,) of :meth:`draw`.
            weight: share of the silence that counts.
        """
        hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(features)))).transpose(1, 2)
        heard = hidden[:, : self.heard * STATES_PER_ROW]
        silence = hidden[:, -STATES_PER_ROW].unsqueeze(1)  # Not at the end, where zeros follow.
        hidden = torch.cat([heard, silence.expand(-1, self.drawn * STATES_PER_ROW, -1)], dim=1)
        states = (rows[:, None] * STATES_PER_ROW + torch.arange(STATES_PER_ROW)).flatten()
        hidden = hidden + tower.embed_positions.weight[states]
        bias = torch.zeros(len(states))
        bias[self.heard * STATES_PER_ROW :] = self.log_share(weight)
        for layer in tower.layers:
            hidden = layer(hidden, attention_mask=bias[None, None, None, :])
        normal: Tensor = tower.layer_norm(hidden)
        return normal.reshape(normal.shape[0], len(rows), -1)

    def loss(
        self,
        model: Any,  # noqa: ANN401
        features: Tensor,
        answers: list[list[int]],
        request: list[int],
        *,
        generator: torch.Generator,
        weight: float = 1.0,
    ) -> Tensor:
        """Return the mean cross-entropy of answers after the request.

        Args:
            model: ``VoxtralForConditionalGeneration``.
            features: (B, 128, frames).
            answers: token ids of each transcript and its end.
            request: token ids of the prompt of a whole chunk.
            generator: of the drawn rows.
            weight: share of the silence that counts.
        """
        audio = model.config.audio_token_id
        rows = self.draw(generator)
        first = request.index(audio)
        before, after = request[:first], request[first + self.rows :]
        ids = before + [audio] * len(rows) + after
        longest = max(map(len, answers))
        padded = torch.tensor([ids + each + [0] * (longest - len(each)) for each in answers])
        place = torch.cat(
            [
                torch.arange(first),
                first + rows,
                torch.arange(first + self.rows, len(request) + longest),
            ]
        )
        embedded = model.get_input_embeddings()(padded)
        heard = model.model.multi_modal_projector(
            self.encode(model.model.audio_tower, features, rows, weight=weight)
        )
        embedded = torch.cat([embedded[:, :first], heard, embedded[:, first + len(rows) :]], dim=1)
        hidden = model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=self._causal(len(place), first=first + self.heard, weight=weight),
            position_ids=place[None],
            use_cache=False,
        ).last_hidden_state
        labels = torch.tensor([each + [-100] * (longest - len(each)) for each in answers])
        logits = model.lm_head(hidden[:, len(ids) - 1 : -1])
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())

    def _causal(self, length: int, *, first: int, weight: float) -> Tensor:
        """Return (1, 1, length, length): what may be attended to, and how much it counts for."""
        mask = torch.full((length, length), -torch.inf).triu(1)
        mask[:, first : first + self.drawn] += self.log_share(weight)
        return mask[None, None]
