"""A frozen speech LLM with an adapter on its projector: losses and transcripts of audio chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from components.speech_llm.adapter import load_state, peft_state
from components.speech_llm.attention import Attention
from components.speech_llm.base import Base, Precision, load_base
from components.speech_llm.encoding import encode_chunks
from components.speech_llm.examples import (
    Examples,
    answer_ids,
    answered,
    requests,
    to_be_answered,
)
from components.speech_llm.families import Family
from components.speech_llm.identity import identify, require_same
from components.speech_llm.likelihood import answer_likelihood
from components.speech_llm.lora import LoRA
from components.speech_llm.memory import held_bytes, outline_lines
from components.speech_llm.prompt import Prompt, prompt_for
from components.speech_llm.quantization import Quantization
from components.speech_llm.rows import row_counts, valid_rows
from components.speech_llm.state import keep_trained_only
from core.contracts import RunContext
from core.errors import ConfigError
from core.registry import register


class Scored(NamedTuple):
    """Sums over label tokens: float32 cross-entropy, tokens, and tokens that were most likely."""

    total: Tensor
    tokens: Tensor
    correct: Tensor


@register("model", "speech_llm")
class SpeechLLM(nn.Module):
    """A speech LLM whose encoder and language model are frozen, with adapters to be trained.

    Its state is the adapter's alone: the base is loaded from its own files at setup, and the assets
    of a run keep what tells it from other bases. The encoder runs without gradient, in evaluation
    mode, and checkpointing never runs it again. All is computed in the base's own dtype, adapters
    in float32; a precision that the training loop sets changes nothing, so a model gives in use
    what it gave in training.

    Shapes use B for utterances, C for the chunks of 30 s of all of them, R for rows of a chunk and
    W for the width that the projector takes.

    Args:
        base: folder, or id on the hub.
        lora: the adapters.
        quantization: of the base's linear layers outside its projector and output layer.
        attention: implementation; ``auto`` takes FlashAttention 2 where it can run.
        dtype: of what is not quantised.
        gradient_checkpointing: whether the language model's activations are computed again in the
            backward pass.
        with_encoder: False to leave the encoder out of memory in training, where a cache has its
            outputs for every split. In use, when audio may come, it is always there.
        max_new_tokens: that a transcript may have; 25 s of Korean are 100 to 165.
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
        with_encoder: bool = True,
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
        self.with_encoder = with_encoder
        self.max_new_tokens = max_new_tokens
        self.net: Any = None
        self._loaded: _Loaded | None = None
        self._unadapted = 0
        keep_trained_only(self)

    def setup(self, context: RunContext) -> None:
        """Load the base, quantise it, and attach fresh adapters.

        Raises:
            CheckpointError: files of the base are missing, or it is another than that of the run.
            ConfigError: a package is missing, or the base is of no family that can be adapted.
        """
        base = load_base(
            self.base, quantization=self.quantization, attention=self.attention, dtype=self.dtype
        )
        require_same(identify(base.folder), context, folder=base.folder)
        prompt = prompt_for(base.folder, base.family)
        if context.training and not self.with_encoder:
            base.model.model.audio_tower = None
        self.net = self.lora.attach(base.model, projector=base.family.projector)
        if self.gradient_checkpointing:
            _checkpoint_layers(base.model.model.language_model)
        self._loaded = _Loaded(base, prompt)
        self.train(self.training)

    def describe(self) -> list[str]:
        """Return lines for the run header: base, attention, quantisation, adapters, memory."""
        base = self._ready.base
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        layers = len(self.net.targeted_module_names)
        form = f"{base.quantized} layers in nf4 with double quantisation"
        absent = ", without its encoder" if base.model.model.audio_tower is None else ""
        return [
            f"base {base.folder} ({base.family.title}), {self.dtype}, "
            f"{form if base.quantized else 'not quantised'}: "
            f"weights of {held_bytes(base.model) / 1e9:.3f} GB{absent}",
            f"attention {base.attention.name} ({base.attention.reason})",
            f"adapter {trained:,} parameters on {layers} layers",
        ]

    def outline(self) -> list[str]:
        """Return parameter counts and memory of the weights; reads no weights, loads nothing."""
        return outline_lines(self.base, self.lora)

    @property
    def family(self) -> Family:
        """What kind of model the base is, once it is loaded."""
        return self._ready.base.family

    # --------------------------------------------------------------------- training and using

    def encode(
        self,
        features: Tensor,
        *,
        chunks: Sequence[int] | None = None,
        samples: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """Map (C, 128, 3000) features to (C, R, W) rows as the projector takes them; no gradient.

        Args:
            features: of all chunks, in any floating dtype.
            chunks: of each utterance; None for one each.
            samples: of audio behind each utterance, at 16 kHz; families that leave padding out
                need them, the others do not look.

        Raises:
            ConfigError: the encoder was left out.
            DataError: samples are needed, or an utterance has more chunks than the family takes.
        """
        model = self._ready.base.model
        if model.model.audio_tower is None:
            raise ConfigError(
                "model.with_encoder is off, so every batch must have stored outputs of the "
                "encoder, and one has features or audio: name a cache made with --encoder for "
                "every split in data.features, or set model.with_encoder=true"
            )
        return encode_chunks(model, self.family, features, chunks=chunks, samples=samples)

    def loss(
        self,
        encoded: Tensor,
        chunks: Sequence[int],
        texts: Sequence[str],
        language: str | None,
        *,
        samples: Sequence[int] | Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return summed cross-entropy and label tokens of transcripts; see :meth:`score`."""
        scored = self.score(encoded, chunks, texts, language, samples=samples)
        return scored.total, scored.tokens

    def score(
        self,
        encoded: Tensor,
        chunks: Sequence[int],
        texts: Sequence[str],
        language: str | None,
        *,
        samples: Sequence[int] | Tensor | None = None,
    ) -> Scored:
        """Compare transcripts and their ends with what the model finds likely, given the audio.

        Args:
            encoded: (C, R, W) rows of :meth:`encode`.
            chunks: of each utterance.
            texts: transcripts.
            language: code of ISO 639-1 for the prompt; None for none.
            samples: of audio behind each utterance; see :meth:`encode`.

        Raises:
            ConfigError: the language cannot be asked for.
            DataError: chunks do not fit the rows, or a transcript holds the audio token.
        """
        hidden, labels = self._before_answers(encoded, chunks, texts, language, samples)
        with torch.autocast(encoded.device.type, enabled=False):
            total, correct = answer_likelihood(hidden, self._ready.base.model.lm_head, labels)
        return Scored(total, torch.tensor(labels.numel(), device=total.device), correct)

    @torch.no_grad()
    def logits(
        self,
        encoded: Tensor,
        chunks: Sequence[int],
        texts: Sequence[str],
        language: str | None,
        *,
        samples: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """Return the (N, V) float32 logits that :meth:`loss` is of, for all N label tokens.

        They take 4 N V bytes, so this is for comparing models on a few texts.
        """
        hidden, _ = self._before_answers(encoded, chunks, texts, language, samples)
        with torch.autocast(encoded.device.type, enabled=False):
            found: Tensor = self._ready.base.model.lm_head(hidden).float()
        return found

    def label_counts(self, texts: Sequence[str]) -> Tensor:
        """Return the (B,) int64 label tokens of transcripts, their ends included."""
        prompt = self._ready.prompt
        return torch.tensor([len(answer_ids(prompt, text)) for text in texts], dtype=torch.int64)

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
            samples: of audio behind each utterance; see :meth:`encode`.
            max_new_tokens: that a transcript may have; None for the model's own.

        Raises:
            ConfigError: the language cannot be asked for.
            DataError: chunks do not fit the rows.
        """
        model, prompt = self._ready.base.model, self._ready.prompt
        rows = row_counts(encoded, chunks, samples, self.family)
        asked = requests(prompt, rows=rows, chunks=chunks, language=language)
        examples = to_be_answered(prompt, asked, encoded.device)
        with _evaluating(self), torch.autocast(encoded.device.type, enabled=False):
            made = model.generate(
                inputs_embeds=self._embedded(examples, encoded, rows),
                attention_mask=examples.mask,
                generation_config=_greedy(prompt, max_new_tokens or self.max_new_tokens),
            )
        return [prompt.read(row) for row in made.tolist()]

    @contextmanager
    def unadapted(self) -> Iterator[None]:
        """Compute as the base alone does while the context lasts; contexts may be nested."""
        _ = self._ready
        # Leaving one of peft's contexts switches the adapter on, whatever it was before.
        with nullcontext() if self._unadapted else self.net.disable_adapter():
            self._unadapted += 1
            try:
                yield
            finally:
                self._unadapted -= 1

    def train(self, mode: bool = True) -> SpeechLLM:
        """Set the mode of all but the encoder, which is always evaluated."""
        super().train(mode)
        if self._loaded is not None and self._loaded.base.model.model.audio_tower is not None:
            self._loaded.base.model.model.audio_tower.eval()
        return self

    # --------------------------------------------------------------------------- the adapter

    def adapter_state(self) -> dict[str, Tensor]:
        """Return the adapter's weights by the names that they have in a file of peft."""
        _ = self._ready
        return peft_state(self.net)

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the adapter's weights by the names of :meth:`adapter_state`.

        Raises:
            CheckpointError: names or shapes differ; all are listed, and nothing is taken.
        """
        _ = self._ready
        load_state(self.net, state)

    # ------------------------------------------------------------------------------- details

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise ConfigError("the speech LLM has no weights yet; setup() loads them")
        return self._loaded

    def _before_answers(
        self,
        encoded: Tensor,
        chunks: Sequence[int],
        texts: Sequence[str],
        language: str | None,
        samples: Sequence[int] | Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the (N, D) states before the label tokens, and the (N,) tokens."""
        model, prompt = self._ready.base.model, self._ready.prompt
        rows = row_counts(encoded, chunks, samples, self.family)
        asked = requests(prompt, rows=rows, chunks=chunks, language=language)
        examples = answered(prompt, asked, texts, encoded.device)
        with torch.autocast(encoded.device.type, enabled=False):
            hidden = model.model.language_model(
                inputs_embeds=self._embedded(examples, encoded, rows),
                attention_mask=examples.mask,
                use_cache=False,
            ).last_hidden_state
        return examples.at_answers(hidden, shift=-1), examples.at_answers(examples.ids)

    def _embedded(self, examples: Examples, encoded: Tensor, rows: Sequence[int]) -> Tensor:
        """Return (B, L, D) embeddings of tokens, with projected rows in the audio's place."""
        model = self._ready.base.model
        embedded: Tensor = model.get_input_embeddings()(examples.ids)
        projector = model.get_submodule(self.family.projector)
        projected = projector(valid_rows(encoded, rows).to(embedded.dtype))
        place = (examples.ids == self._ready.prompt.audio_token).unsqueeze(-1)
        return embedded.masked_scatter(place, projected.to(embedded.dtype))


class _Loaded(NamedTuple):
    base: Base
    prompt: Prompt


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Leave training mode for a while: in it, checkpointing forbids the cache of generation."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


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

    Through the whole model, transformers also makes the encoder's inputs require gradients, and
    the frozen encoder would be run backwards.
    """
    language_model._set_gradient_checkpointing(
        enable=True, gradient_checkpointing_func=partial(checkpoint, use_reentrant=False)
    )
