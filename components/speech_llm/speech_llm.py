"""A frozen speech LLM with an adapter on its projector: losses and transcripts of audio chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from components.speech_llm.attention import Attention
from components.speech_llm.base import Base, Precision, load_base
from components.speech_llm.identity import identify, require_same
from components.speech_llm.likelihood import answer_likelihood
from components.speech_llm.lora import LoRA
from components.speech_llm.memory import outline_lines
from components.speech_llm.prompt import Prompt, collate, prompt_for, refuse_audio_token
from components.speech_llm.quantization import Quantization
from components.speech_llm.rows import frame_mask, row_counts, valid_rows
from core.contracts import RunContext
from core.errors import ConfigError
from core.registry import register


class SpeechLoss(NamedTuple):
    """Sums over label tokens: float32 cross-entropy, tokens, and tokens that were most likely."""

    total: Tensor
    count: Tensor
    correct: Tensor


@register("model", "speech_llm")
class SpeechLLM(nn.Module):
    """A speech LLM whose encoder and language model are frozen, with adapters to be trained.

    Its state is the adapter's alone: the base is loaded from its own files at setup, and a
    checkpoint keeps what tells it from other bases. The encoder runs without gradient, in
    evaluation mode, and is never run again by checkpointing.

    Shapes use B for utterances, C for the chunks of all of them, R for rows of a chunk and W for
    the width that the projector takes.

    Args:
        base: folder, or id on the hub.
        lora: the adapters.
        quantization: of the base's linear layers outside its projector and output layer.
        attention: implementation; ``auto`` takes FlashAttention 2 where it can run.
        dtype: of what is not quantised; adapters are float32.
        gradient_checkpointing: whether the language model's activations are computed again in the
            backward pass.
        max_new_tokens: that a transcript may have.
    """

    def __init__(
        self,
        *,
        base: str,
        lora: LoRA,
        quantization: Quantization = "nf4",
        attention: Attention = "auto",
        dtype: Precision = "bf16",
        gradient_checkpointing: bool = False,
        max_new_tokens: int = 256,
    ) -> None:
        super().__init__()
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
        self.base = base
        self.lora = lora
        self.quantization: Quantization = quantization
        self.attention: Attention = attention
        self.dtype: Precision = dtype
        self.gradient_checkpointing = gradient_checkpointing
        self.max_new_tokens = max_new_tokens
        self.net: Any = None
        """The ``PeftModel``, once :meth:`setup` has run."""
        self._loaded: Base | None = None
        self._prompt: Prompt | None = None
        self.register_state_dict_post_hook(_keep_adapter)
        self.register_load_state_dict_post_hook(_expect_adapter)

    def setup(self, context: RunContext) -> None:
        """Load the base, quantise it, and attach fresh adapters.

        Raises:
            CheckpointError: files of the base are missing, or it is another than that of the run.
            ConfigError: a package is missing, or the base is of no known family.
        """
        loaded = load_base(
            self.base, quantization=self.quantization, attention=self.attention, dtype=self.dtype
        )
        require_same(identify(loaded.folder), context, folder=loaded.folder)
        self._prompt = prompt_for(loaded.folder, loaded.family, loaded.model.config)
        self._loaded = loaded
        self.net = self.lora.attach(loaded.model, projector=loaded.family.projector)
        if self.gradient_checkpointing:
            _checkpoint_layers(loaded.model.model.language_model)
        self.train(self.training)

    def describe(self) -> list[str]:
        """Return lines for the run header: base, attention, quantisation, adapters."""
        loaded = self._ready()
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        form = f"nf4, double quantisation ({loaded.quantized} layers)"
        return [
            f"base {loaded.folder} ({loaded.family.title}), {self.dtype}, "
            f"{form if loaded.quantized else 'not quantised'}",
            f"attention {loaded.attention.name} ({loaded.attention.reason})",
            f"adapter {trained:,} parameters on {len(self.net.targeted_module_names)} layers",
        ]

    def outline(self) -> list[str]:
        """Return parameter counts and memory of the weights; reads no weights, loads nothing."""
        return outline_lines(self.base, self.lora)

    # ----------------------------------------------------------------------- training, using

    @torch.no_grad()
    def encode(
        self,
        features: Tensor,
        *,
        samples: Sequence[int] | Tensor | None = None,
        chunks: Sequence[int] | None = None,
    ) -> Tensor:
        """Map (C, 128, 3000) features to (C, R, W) rows as the projector takes them.

        Args:
            features: of all chunks, in any floating dtype.
            samples: of audio behind each utterance, at 16 kHz; needed where a family leaves
                padding out.
            chunks: of each utterance; needed with ``samples``.

        Raises:
            DataError: the family needs to know where the audio ends, and is not told.
        """
        loaded = self._ready()
        tower = loaded.model.model.audio_tower
        extra = {}
        if loaded.family.mask_to_encoder:
            extra["input_features_mask"] = frame_mask(chunks, samples, loaded.family).to(
                features.device
            )
        hidden: Tensor = tower(features, **extra).last_hidden_state
        return hidden.reshape(features.shape[0], -1, self._width())

    def loss(
        self,
        encoded: Tensor,
        chunks: Sequence[int],
        texts: Sequence[str],
        language: str | None,
        *,
        samples: Sequence[int] | Tensor | None = None,
    ) -> SpeechLoss:
        """Return the cross-entropy of transcripts and of their ends, summed over tokens.

        Args:
            encoded: (C, R, W) rows of :meth:`encode`.
            chunks: of each utterance.
            texts: transcripts.
            language: code of ISO 639-1 for the prompt; None for none.
            samples: of audio behind each utterance; needed where a family leaves padding out.
        """
        counts = self._rows(encoded, chunks, samples)
        answers = [self._answer(text) for text in texts]
        requests = self._requests(counts, chunks, language)
        rows = [ask + answer for ask, answer in zip(requests, answers, strict=True)]
        ids, mask = (part.to(encoded.device) for part in collate(rows, pad=self._pad()))
        embedded = self._embedded(ids, encoded, chunks, counts)
        spans = [(len(ask), len(row)) for ask, row in zip(requests, rows, strict=True)]
        hidden = (
            self._inner()
            .model.language_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False)
            .last_hidden_state
        )
        before = torch.cat([hidden[b, start - 1 : end - 1] for b, (start, end) in enumerate(spans)])
        labels = torch.cat([ids[b, start:end] for b, (start, end) in enumerate(spans)])
        total, correct = answer_likelihood(before, self._inner().lm_head, labels)
        return SpeechLoss(total, torch.tensor(labels.numel(), device=total.device), correct)

    def label_counts(self, texts: Sequence[str]) -> Tensor:
        """Return the (B,) int64 label tokens of transcripts, their ends included."""
        return torch.tensor([len(self._answer(text)) for text in texts], dtype=torch.int64)

    @torch.no_grad()
    def generate(
        self,
        encoded: Tensor,
        chunks: Sequence[int],
        language: str | None,
        *,
        samples: Sequence[int] | Tensor | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Return the most likely transcript of each utterance, token by token (greedy).

        Args:
            encoded: (C, R, W) rows of :meth:`encode`.
            chunks: of each utterance.
            language: code of ISO 639-1 for the prompt; None for none.
            samples: of audio behind each utterance; needed where a family leaves padding out.
            max_new_tokens: that a transcript may have; None for the model's own.
        """
        counts = self._rows(encoded, chunks, samples)
        requests = self._requests(counts, chunks, language)
        padded = collate(requests, pad=self._pad(), left=True)
        ids, mask = (part.to(encoded.device) for part in padded)
        prompt = self._checked_prompt()
        training = self.training
        self.eval()  # Checkpointing, which training mode turns on, would leave out the cache.
        try:
            made = self._inner().generate(
                inputs_embeds=self._embedded(ids, encoded, chunks, counts),
                attention_mask=mask,
                generation_config=_greedy(prompt, max_new_tokens or self.max_new_tokens),
            )
        finally:
            self.train(training)
        return [prompt.read(row) for row in made.tolist()]

    @contextmanager
    def unadapted(self) -> Iterator[None]:
        """Compute as the base alone does while the context lasts."""
        self._ready()
        with self.net.disable_adapter():
            yield

    def train(self, mode: bool = True) -> SpeechLLM:
        """Set the mode of all but the encoder, which is always evaluated."""
        super().train(mode)
        if self.net is not None:
            self._inner().model.audio_tower.eval()
        return self

    # -------------------------------------------------------------------------- the adapter

    def adapter_state(self) -> dict[str, Tensor]:
        """Return the adapter's weights by the names that peft gives them in a file."""
        from peft import get_peft_model_state_dict

        self._ready()
        return dict(get_peft_model_state_dict(self.net))

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the adapter's weights by the names of :meth:`adapter_state`.

        Raises:
            CheckpointError: a name or a shape does not fit; every one is listed, nothing is taken.
        """
        from components.speech_llm.adapter import load_state

        self._ready()
        load_state(self.net, state)

    # ------------------------------------------------------------------------------- details

    def _ready(self) -> Base:
        if self._loaded is None:
            raise ConfigError("the speech LLM has no weights yet; setup() loads them")
        return self._loaded

    def _checked_prompt(self) -> Prompt:
        self._ready()
        assert self._prompt is not None
        return self._prompt

    def _inner(self) -> Any:  # noqa: ANN401
        return self._ready().model

    def _pad(self) -> int:
        return self._checked_prompt().pad_token

    def _projector(self) -> nn.Module:
        found: nn.Module = self._inner().get_submodule(self._ready().family.projector)
        return found

    def _width(self) -> int:
        first = self._projector().get_submodule(self._ready().family.first_linear)
        return int(first.in_features)  # type: ignore[arg-type]

    def _answer(self, text: str) -> list[int]:
        prompt = self._checked_prompt()
        ids = prompt.answer(text)
        refuse_audio_token(ids, prompt, text)
        return ids

    def _rows(
        self, encoded: Tensor, chunks: Sequence[int], samples: Sequence[int] | Tensor | None
    ) -> list[int]:
        return row_counts(encoded, chunks, samples, self._ready().family)

    def _requests(
        self, counts: Sequence[int], chunks: Sequence[int], language: str | None
    ) -> list[list[int]]:
        prompt = self._checked_prompt()
        return [
            prompt.request(rows=sum(counts), chunks=number, language=language)
            for counts, number in zip(_by_utterance(counts, chunks), chunks, strict=True)
        ]

    def _embedded(
        self, ids: Tensor, encoded: Tensor, chunks: Sequence[int], counts: Sequence[int]
    ) -> Tensor:
        """Return (B, L, D) embeddings of tokens, with projected rows in the audio's place."""
        embedded: Tensor = self._inner().get_input_embeddings()(ids)
        projector = self._projector()
        rows = projector(valid_rows(encoded, counts).to(embedded.dtype))
        place = (ids == self._checked_prompt().audio_token).unsqueeze(-1)
        return embedded.masked_scatter(place, rows.to(embedded.dtype))


def _by_utterance(counts: Sequence[int], chunks: Sequence[int]) -> Iterator[Sequence[int]]:
    start = 0
    for number in chunks:
        yield counts[start : start + number]
        start += number


def _greedy(prompt: Prompt, max_new_tokens: int) -> Any:  # noqa: ANN401
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=prompt.pad_token,
        eos_token_id=prompt.end_token,
    )


def _checkpoint_layers(language_model: Any) -> None:  # noqa: ANN401
    """Let the language model's layers, and nothing else, be computed again.

    Through the whole model transformers also makes the encoder's inputs require gradients, and the
    encoder would be run backwards for nothing.
    """
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    language_model._set_gradient_checkpointing(
        enable=True, gradient_checkpointing_func=partial(checkpoint, use_reentrant=False)
    )


def _keep_adapter(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]
) -> None:
    """Leave only trained weights in a state."""
    trained = {f"{prefix}{name}" for name, p in module.named_parameters() if p.requires_grad}
    for name in [n for n in state if n.startswith(prefix) and n not in trained]:
        del state[name]


def _expect_adapter(module: nn.Module, incompatible: Any) -> None:  # noqa: ANN401
    """Do not miss frozen weights, which a state never has."""
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    incompatible.missing_keys[:] = [
        key
        for key in incompatible.missing_keys
        if ".net." not in f".{key}" or any(key.endswith(name) for name in trained)
    ]
