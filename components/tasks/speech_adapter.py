"""Adapters of speech language models: what a frozen model makes of speech, bent to a domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from components.features.whisper import CHUNK_SAMPLES, SAMPLE_RATE, WhisperFeatures
from components.metrics.error_rate import ErrorCounts, characters, count_errors, words
from components.metrics.forms import FormsReport
from components.speech_llm.base import find_base
from components.speech_llm.prompt import prompt_for, require_code
from components.speech_llm.speech_llm import Scored, SpeechLLM
from core.contracts import (
    Artifact,
    FeatureBatch,
    LossSum,
    MetricSum,
    RunContext,
    SpeechBatch,
    TranscribingTask,
    Transcript,
)
from core.contracts.components import TextForm
from core.errors import ConfigError, DataError
from core.registry import register


@register("task", "speech_adapter")
class SpeechAdapterTask(TranscribingTask):
    """Trains the adapter of a speech language model on the text after a transcription prompt.

    The prompt is the one that the base was trained with, so what is learnt is how the domain
    sounds and writes, not what is asked. Only transcripts and their ends are targets.

    A batch has stored features, stored outputs of the frozen encoder, or audio; all give the same
    loss.

    Args:
        model: the frozen base with its adapter.
        language: code that the prompt names, such as ``ko``; None to let the model find out.
        text: normal form that hypotheses and references are scored in; None to score them as
            written. Training texts are in it already.
        prompt_chunks: most chunks of 30 s that are transcribed under one prompt; longer audio is
            transcribed part by part, and the texts are joined by spaces. 1 is what an adapter of
            short clips has learnt; more keeps words whole at the borders. Families that take one
            chunk hear each as a recording of its own, as their processors do.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("ce",)
    metric_names: ClassVar[tuple[str, ...]] = ("token_accuracy",)

    def __init__(
        self,
        *,
        model: SpeechLLM,
        language: str | None = None,
        text: TextForm | None = None,
        prompt_chunks: int = 1,
    ) -> None:
        super().__init__()
        if prompt_chunks < 1:
            raise ConfigError(f"task.prompt_chunks: expected at least 1, got {prompt_chunks}")
        self.model = model
        self.language = language
        self.text = text
        self.prompt_chunks = prompt_chunks
        self._features = WhisperFeatures()
        self._correct = MetricSum(total=0.0, count=0.0)
        self._baseline: dict[tuple[tuple[str, ...], ...], dict[str, MetricSum]] = {}

    def setup(self, context: RunContext) -> None:
        """Load the base, attach the adapter.

        Raises:
            CheckpointError: files of the base are missing.
            ConfigError: the base cannot be asked in the language, which is told before its weights
                are read, or it takes fewer chunks under one prompt than are set.
        """
        folder, family = find_base(self.model.base)
        with _naming_the_language():
            prompt_for(folder, family).require(self.language)
        self.model.setup(context)
        most = self.model.family.max_chunks
        if most is not None and self.prompt_chunks > most:
            raise ConfigError(
                f"task.prompt_chunks is {self.prompt_chunks}, and {self.model.family.title} takes "
                f"{most} under one prompt; set {most}"
            )

    def summary(self) -> list[str]:
        """Return what was loaded, how attention is computed, and what it takes of memory."""
        form = "as written" if self.text is None else self.text.fingerprint
        prompt = f"language {self.language or 'left to the model'}, texts scored {form}"
        return [*self.model.describe(), prompt]

    def outline(self) -> list[str]:
        """Return parameters and memory at real size, from the base's configuration alone.

        Raises:
            ConfigError: ``language`` is no code of any language.
        """
        with _naming_the_language():
            require_code(self.language)
        return self.model.outline()

    # ---------------------------------------------------------------------------- training

    def counts(self, batch: FeatureBatch | SpeechBatch) -> dict[str, Tensor]:
        """Return the tokens of all transcripts, their ends included."""
        return {"ce": self.model.label_counts(batch.texts).sum().double()}

    def step(self, batch: FeatureBatch | SpeechBatch) -> dict[str, LossSum]:
        """Return the cross-entropy summed over the tokens of the transcripts."""
        scored = self._score(self._heard_audio(batch), batch.texts)
        self._correct = MetricSum(total=scored.correct, count=scored.tokens)
        return {"ce": LossSum(total=scored.total, count=scored.tokens)}

    def train_metrics(self) -> dict[str, MetricSum]:
        """Return the share of tokens that were the most likely ones, dropout included."""
        return {"token_accuracy": self._correct}

    # -------------------------------------------------------------------------- evaluation

    def evaluate(self, batch: FeatureBatch | SpeechBatch) -> dict[str, MetricSum]:
        """Return loss per token and error rates, and beside each that of the base alone.

        The base does not change, so its figures are computed when a batch is first seen.
        """
        audio = self._heard_audio(batch)
        found = self._figures(audio, batch.texts)
        key = (batch.ids, batch.texts)
        if key not in self._baseline:
            with self.unadapted():
                before = self._figures(audio, batch.texts)
            self._baseline[key] = {name: _on_host(sums) for name, sums in before.items()}
        beside = {f"{name}_unadapted": sums for name, sums in self._baseline[key].items()}
        return {**found, **beside}

    def transcribe(self, batch: FeatureBatch | SpeechBatch) -> list[Transcript]:
        """Return what is heard in each utterance."""
        texts = self._texts(self._heard_audio(batch))
        return [
            Transcript(id=utterance, text=text)
            for utterance, text in zip(batch.ids, texts, strict=True)
        ]

    def error_report(self) -> FormsReport:
        """Return an empty report, in normal form and as written."""
        return FormsReport(form=self.text)

    def unadapted(self) -> AbstractContextManager[None]:
        """Compute with the base alone while the context lasts."""
        return self.model.unadapted()

    def artifacts(self, batch: FeatureBatch | SpeechBatch, *, limit: int) -> list[Artifact]:
        """Return what was said, and heard with and without the adapter, of the first utterances."""
        audio = self._heard_audio(batch).first(limit)
        adapted = self._texts(audio)
        with self.unadapted():
            unadapted = self._texts(audio)
        return [
            Artifact(
                name=f"text/{batch.ids[row]}",
                kind="text",
                value=(
                    f"reference:  {batch.texts[row]}\n"
                    f"adapted:    {adapted[row]}\n"
                    f"un-adapted: {unadapted[row]}"
                ),
                caption=batch.texts[row],
            )
            for row in range(len(audio.chunks))
        ]

    # ----------------------------------------------------------------------------- details

    @property
    def sample_rate(self) -> int:
        """Sample rate of audio, in Hz."""
        return SAMPLE_RATE

    def _normal(self, text: str) -> str:
        return text if self.text is None else self.text(text)

    def _heard_audio(self, batch: FeatureBatch | SpeechBatch) -> _Audio:
        if isinstance(batch, SpeechBatch):
            return self._listen(batch)
        if batch.encoded is not None:
            rows = batch.encoded
        elif batch.features is not None:
            rows = self._encode(batch.features, batch.chunks, tuple(batch.samples.tolist()))
        else:
            raise DataError("a batch needs features or encoder outputs; it has neither")
        return _Audio(rows, batch.chunks, tuple(batch.samples.tolist()))

    def _listen(self, batch: SpeechBatch) -> _Audio:
        """Encode audio, each utterance without the padding of its batch."""
        samples = tuple(batch.audio_lengths.tolist())
        audio = batch.audio.float().cpu()
        most = self.model.family.max_chunks
        found = [
            self._features.by_parts(row[:length].contiguous(), chunks=most)
            for row, length in zip(audio, samples, strict=True)
        ]
        chunks = tuple(len(each) for each in found)
        features = torch.cat(found).to(batch.audio.device)
        return _Audio(self._encode(features, chunks, samples), chunks, samples)

    def _encode(self, features: Tensor, chunks: Sequence[int], samples: Sequence[int]) -> Tensor:
        """Encode the chunks of long utterances as far apart as the family takes them."""
        most = self.model.family.max_chunks
        if most is not None:
            parts = [part for each in _divided(chunks, samples, most) for part in each]
            chunks = [part.chunks for part in parts]
            samples = [part.samples for part in parts]
        return self.model.encode(features, chunks=chunks, samples=samples)

    def _score(self, audio: _Audio, texts: Sequence[str]) -> Scored:
        return self.model.score(
            audio.rows, audio.chunks, texts, self.language, samples=audio.samples
        )

    def _figures(self, audio: _Audio, texts: Sequence[str]) -> dict[str, MetricSum]:
        scored = self._score(audio, texts)
        word_errors = character_errors = dense_errors = ErrorCounts()
        for said, heard in zip(texts, self._texts(audio), strict=True):
            reference, hypothesis = self._normal(said), self._normal(heard)
            word_errors += count_errors(words(reference), words(hypothesis))
            character_errors += count_errors(characters(reference), characters(hypothesis))
            dense_errors += count_errors(
                characters(reference, spaces=False), characters(hypothesis, spaces=False)
            )
        return {
            "loss": MetricSum(total=scored.total, count=scored.tokens),
            "cer": _rate(character_errors),
            "cer_without_spaces": _rate(dense_errors),
            "wer": _rate(word_errors),
        }

    def _texts(self, audio: _Audio) -> list[str]:
        """Return the text of each utterance; parts of long ones are transcribed side by side."""
        parts = _divided(audio.chunks, audio.samples, self.prompt_chunks)
        chunks = tuple(part.chunks for utterance in parts for part in utterance)
        samples = tuple(part.samples for utterance in parts for part in utterance)
        texts = iter(self.model.generate(audio.rows, chunks, self.language, samples=samples))
        return [
            " ".join(filter(None, (next(texts).strip() for _ in utterance))) for utterance in parts
        ]


class _Part(NamedTuple):
    """What is transcribed under one prompt."""

    chunks: int
    samples: int


@dataclass(frozen=True)
class _Audio:
    """Utterances as the projector takes them.

    Args:
        rows: (C, R, W) of all chunks.
        chunks: of each utterance.
        samples: of audio behind each utterance.
    """

    rows: Tensor
    chunks: tuple[int, ...]
    samples: tuple[int, ...]

    def first(self, limit: int) -> _Audio:
        """Return the first utterances."""
        chunks = self.chunks[:limit]
        return _Audio(self.rows[: sum(chunks)], chunks, self.samples[:limit])


def _divided(chunks: Sequence[int], samples: Sequence[int], most: int) -> list[list[_Part]]:
    """Divide utterances into parts of at most ``most`` chunks."""
    divided = []
    for whole, length in zip(chunks, samples, strict=True):
        parts = []
        for start in range(0, whole, most):
            size = min(most, whole - start)
            left = length - start * CHUNK_SAMPLES
            parts.append(_Part(size, min(left, size * CHUNK_SAMPLES)))
        divided.append(parts)
    return divided


@contextmanager
def _naming_the_language() -> Iterator[None]:
    """Say by which setting a language came that is refused."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"task.language: {error}") from error


def _on_host(sums: MetricSum) -> MetricSum:
    return MetricSum(total=float(sums.total), count=float(sums.count))


def _rate(errors: ErrorCounts) -> MetricSum:
    return MetricSum(total=errors.errors, count=errors.reference_length)
