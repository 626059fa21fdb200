"""The text-to-semantic model of IndexTTS2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from components.models.conditioner import Conditioner
from components.models.gpt import in_order, make_gpt, packed
from components.models.perceiver import PerceiverResampler
from components.models.token_stream import token_stream
from core.contracts.noisy import Padded
from core.contracts.pairs import PairForm, TokenIds
from core.errors import ConfigError, DataError
from core.registry import register

UNTOLD = -1
"""Duration of a row that is not told how long its speech shall be."""
DURATION_SLOTS = 2
"""Positions of the prefix after the speaker latents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnifiedVoiceHidden:
    """Hidden states with what they are to predict.

    Args:
        text: (B, U + 2, D), inputs of ``text_head``.
        text_targets: (B, U + 2) int64.
        text_mask: (B, U + 2) bool, true for the tokens and one stop.
        semantic: (B, S + 2, D), inputs of ``mel_head``.
        semantic_targets: (B, S + 2) int64.
        semantic_mask: (B, S + 2) bool, true for the codes and one stop.
    """

    text: Tensor
    text_targets: Tensor
    text_mask: Tensor
    semantic: Tensor
    semantic_targets: Tensor
    semantic_mask: Tensor


@register("model", "unified_voice")
class UnifiedVoice(nn.Module):
    """A GPT that reads who speaks, how, and what, and says it as semantic codes.

    The text-to-semantic model of IndexTTS2 (Zhou et al. 2025, section 3.1), with the published
    names and shapes: the defaults have 866.0 million parameters. The sequence is 32 latents of the
    speaker with the emotion vector added to each, two slots for a duration, text, and codes. Where
    the published code lets padding change a result, this does not: a row of a batch gets what it
    would get alone.

    Args:
        dim: model width D.
        layers: blocks of the GPT.
        heads: attention heads of the GPT; they divide ``dim``.
        dropout: of the GPT: on its inputs, attention weights and residual branches.
        gradient_checkpointing: compute the GPT's activations again in the backward pass.
        text_padding: where the GPT reads the padding of texts: ``last``, behind the codes, where
            nothing sees it; or ``between`` text and codes, which attend to it, as in the published
            training.
        text_vocab: entries of the text vocabulary; table and head have one more.
        text_start: id that a text starts with.
        text_stop: id that a text ends with.
        max_text_tokens: longest text.
        semantic_codes: entries of the semantic codebook; start and stop follow as two more.
        max_semantic_tokens: longest code sequence.
        num_latents: latents L of a speaker.
        speaker_features: width of the frames that a speaker is read from.
        speaker_dim: width of the speaker's Conformer.
        speaker_layers: its blocks.
        speaker_heads: its attention heads, and those of the speaker's resampler.
        speaker_feed_forward: width inside its feed-forward modules.
        emotion_features: width of the frames that an emotion is read from: 1024 as published, 80
            for a mel spectrogram.
        emotion_dim: width of the emotion's Conformer.
        emotion_layers: its blocks.
        emotion_heads: its attention heads, and those of the emotion's resampler.
        emotion_feed_forward: width inside its feed-forward modules.
        emotion_perceiver_dim: width of the emotion's resampler.
        kernel_size: frames that the depthwise convolutions of both Conformers see; odd.
        perceiver_layers: layers of both resamplers.
        perceiver_head_dim: width of their attention heads.
        perceiver_expansion: of their feed-forward modules.
    """

    gpt: nn.Module
    text_embedding: nn.Embedding
    text_head: nn.Linear
    mel_head: nn.Linear

    def __init__(
        self,
        *,
        dim: int = 1280,
        layers: int = 24,
        heads: int = 20,
        dropout: float = 0.1,
        gradient_checkpointing: bool = False,
        text_padding: Literal["last", "between"] = "last",
        text_vocab: int = 12000,
        text_start: int = 0,
        text_stop: int = 1,
        max_text_tokens: int = 600,
        semantic_codes: int = 8192,
        max_semantic_tokens: int = 1815,
        num_latents: int = 32,
        speaker_features: int = 1024,
        speaker_dim: int = 512,
        speaker_layers: int = 6,
        speaker_heads: int = 8,
        speaker_feed_forward: int = 2048,
        emotion_features: int = 1024,
        emotion_dim: int = 512,
        emotion_layers: int = 4,
        emotion_heads: int = 4,
        emotion_feed_forward: int = 1024,
        emotion_perceiver_dim: int = 1024,
        kernel_size: int = 15,
        perceiver_layers: int = 2,
        perceiver_head_dim: int = 64,
        perceiver_expansion: int = 2,
    ) -> None:
        super().__init__()
        _check_heads("heads", heads, dim)
        _check_heads("speaker_heads", speaker_heads, speaker_dim)
        _check_heads("emotion_heads", emotion_heads, emotion_dim)
        _check_features("speaker_features", speaker_features)
        _check_features("emotion_features", emotion_features)
        if kernel_size % 2 == 0:
            raise ConfigError(f"unified_voice: kernel_size must be odd, found {kernel_size}")
        self.dim = dim
        self.layers = layers
        self.heads = heads
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self.text_padding = text_padding
        self.text_vocab = text_vocab
        self.text_start = text_start
        self.text_stop = text_stop
        self.max_text_tokens = max_text_tokens
        self.semantic_codes = semantic_codes
        self.semantic_start = semantic_codes
        self.semantic_stop = semantic_codes + 1
        self.max_semantic_tokens = max_semantic_tokens
        self.num_latents = num_latents
        self.speaker_features = speaker_features
        self.speaker_dim = speaker_dim
        self.speaker_layers = speaker_layers
        self.speaker_heads = speaker_heads
        self.speaker_feed_forward = speaker_feed_forward
        self.emotion_features = emotion_features
        self.emotion_dim = emotion_dim
        self.emotion_layers = emotion_layers
        self.emotion_heads = emotion_heads
        self.emotion_feed_forward = emotion_feed_forward
        self.emotion_perceiver_dim = emotion_perceiver_dim
        self.kernel_size = kernel_size
        self.perceiver_layers = perceiver_layers
        self.perceiver_head_dim = perceiver_head_dim
        self.perceiver_expansion = perceiver_expansion

    def pair_form(self) -> PairForm:
        """Return the ids and shapes that :meth:`hidden` reads, known before :meth:`setup`."""
        return PairForm(
            text=TokenIds(size=self.text_vocab, reserved=(self.text_start, self.text_stop)),
            codes=TokenIds(
                size=self.semantic_codes, reserved=(self.semantic_start, self.semantic_stop)
            ),
            latents=(self.num_latents, self.dim),
        )

    def setup(self) -> None:
        """Create all parameters, drawing from torch's global generator."""
        self.conditioning_encoder = Conditioner(
            features=self.speaker_features,
            dim=self.speaker_dim,
            layers=self.speaker_layers,
            heads=self.speaker_heads,
            feed_forward_dim=self.speaker_feed_forward,
            kernel_size=self.kernel_size,
        )
        self.perceiver_encoder = self._resampler(
            dim=self.dim,
            context_dim=self.speaker_dim,
            latents=self.num_latents,
            heads=self.speaker_heads,
        )
        self.emo_conditioning_encoder = Conditioner(
            features=self.emotion_features,
            dim=self.emotion_dim,
            layers=self.emotion_layers,
            heads=self.emotion_heads,
            feed_forward_dim=self.emotion_feed_forward,
            kernel_size=self.kernel_size,
        )
        self.emo_perceiver_encoder = self._resampler(
            dim=self.emotion_perceiver_dim,
            context_dim=self.emotion_dim,
            latents=1,
            heads=self.emotion_heads,
        )
        self.emo_layer = nn.Linear(self.dim, self.dim)
        self.emovec_layer = nn.Linear(self.emotion_perceiver_dim, self.dim)
        self._setup_language_model()

    def _resampler(
        self, *, dim: int, context_dim: int, latents: int, heads: int
    ) -> PerceiverResampler:
        return PerceiverResampler(
            dim=dim,
            context_dim=context_dim,
            latents=latents,
            layers=self.perceiver_layers,
            heads=heads,
            head_dim=self.perceiver_head_dim,
            expansion=self.perceiver_expansion,
        )

    def _setup_language_model(self) -> None:
        semantic_vocab = self.semantic_codes + 2
        self.text_embedding = _table(self.text_vocab + 1, self.dim)
        self.mel_embedding = _table(semantic_vocab, self.dim)
        self.text_pos_embedding = LearnedPositions(size=self.max_text_tokens + 2, dim=self.dim)
        # One more than start, codes and stop need, of which a published constant is the reason.
        self.mel_pos_embedding = LearnedPositions(size=self.max_semantic_tokens + 3, dim=self.dim)
        self.speed_emb = _table(DURATION_SLOTS, self.dim)
        nn.init.zeros_(self.speed_emb.weight)
        self.gpt = make_gpt(
            dim=self.dim,
            layers=self.layers,
            heads=self.heads,
            dropout=self.dropout,
            gradient_checkpointing=self.gradient_checkpointing,
        )
        self.final_norm = nn.LayerNorm(self.dim)
        self.text_head = nn.Linear(self.dim, self.text_vocab + 1)
        self.mel_head = nn.Linear(self.dim, semantic_vocab)

    def speaker_latents(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) frames of a voice and their (B,) counts to (B, L, D)."""
        frames, valid = self.conditioning_encoder(features, lengths)
        latents: Tensor = self.perceiver_encoder(frames, valid)
        return latents

    def emotion_vector(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) frames of an expression and their (B,) counts to (B, D).

        Rows of less than 3 frames all get the same vector, which depends on the weights alone.
        """
        frames, valid = self.emo_conditioning_encoder(features, lengths)
        latent = self.emo_perceiver_encoder(frames, valid).squeeze(1)
        vector: Tensor = self.emo_layer(self.emovec_layer(latent))
        return vector

    def hidden(
        self,
        latents: Tensor,
        emotion: Tensor,
        text: Padded,
        codes: Padded,
        *,
        duration: Tensor | None = None,
    ) -> UnifiedVoiceHidden:
        """Read a batch and return the inputs of both heads.

        Args:
            latents: (B, L, D) of the speaker.
            emotion: (B, D).
            text: (B, U) int64 ids.
            codes: (B, S) int64.
            duration: (B,) int64, the code count that a row is told, ``UNTOLD`` for none; its slot
                then is the position embedding of that count plus one, or zero. None puts the two
                learnt vectors of the published models there.

        Raises:
            DataError: text or codes are longer than their position tables.
        """
        _check_length("text", text.values.shape[1], "max_text_tokens", self.max_text_tokens)
        _check_length(
            "codes", codes.values.shape[1], "max_semantic_tokens", self.max_semantic_tokens
        )
        said = token_stream(text, start=self.text_start, stop=self.text_stop)
        spoken = token_stream(codes, start=self.semantic_start, stop=self.semantic_stop)
        prefix = self._prefix(latents, emotion, duration)
        first = self.text_pos_embedding(self.text_embedding(said.inputs))
        second = self.mel_pos_embedding(self.mel_embedding(spoken.inputs))
        sizes = (prefix.shape[1], first.shape[1], second.shape[1])
        inputs = torch.cat([prefix, first, second], dim=1)
        if self.text_padding == "between":
            _, states, more = self._read(inputs).split(sizes, dim=1)
        else:
            packing = packed(prefix=sizes[0], first=sizes[1], second=sizes[2], lengths=said.lengths)
            read = self._read(in_order(inputs, packing.order))
            states, more = in_order(read, packing.first), in_order(read, packing.second)
        return UnifiedVoiceHidden(
            text=self.final_norm(states),
            text_targets=said.targets,
            text_mask=said.mask,
            semantic=self.final_norm(more),
            semantic_targets=spoken.targets,
            semantic_mask=spoken.mask,
        )

    def _prefix(self, latents: Tensor, emotion: Tensor, duration: Tensor | None) -> Tensor:
        """Return (B, L + 2, D)."""
        learnt, rows = self.speed_emb.weight, len(latents)
        if duration is None:
            told = learnt[1].expand(rows, -1)
        else:
            known = (duration != UNTOLD).unsqueeze(1)
            told = self.mel_pos_embedding.emb(duration + 1) * known
        slots = torch.stack([told, learnt[0].expand(rows, -1)], dim=1)
        return torch.cat([latents + emotion.unsqueeze(1), slots], dim=1)

    def _read(self, inputs: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D), each position from those up to it."""
        states: Tensor = self.gpt(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return states


class LearnedPositions(nn.Module):
    """Learnt embeddings of positions, added.

    Args:
        size: positions.
        dim: width D.
    """

    def __init__(self, *, size: int, dim: int) -> None:
        super().__init__()
        self.emb = _table(size, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Add the embeddings of positions 0 and up to (B, T, D)."""
        return x + self.emb.weight[: x.shape[1]]


def _table(entries: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(entries, dim)
    nn.init.normal_(table.weight, std=0.02)
    return table


def _check_heads(name: str, heads: int, dim: int) -> None:
    if dim % heads or dim % 2:
        raise ConfigError(f"unified_voice: {name}={heads} must divide an even width, found {dim}")


def _check_features(name: str, features: int) -> None:
    if features < 3:
        raise ConfigError(f"unified_voice: {name} must be at least 3, found {features}")


def _check_length(what: str, found: int, name: str, most: int) -> None:
    if found > most:
        raise DataError(
            f"{what} of {found} tokens; the model has positions for {most}. Leave such rows out, "
            f"or raise {name} (weights trained with another value do not fit then)"
        )
