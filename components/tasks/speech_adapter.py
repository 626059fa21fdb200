"""Adapters of speech language models: what a frozen model makes of speech, bent to a domain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from components.features.whisper import CHUNK_SAMPLES, SAMPLE_RATE, WhisperFeatures
from components.metrics.error_rate import ErrorCounts, characters, count_errors, words
from components.metrics.forms import FormsReport
from components.speech_llm.speech_llm import SpeechLLM
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
from core.errors import ConfigError
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
            short clips has learnt; more keeps words whole at the borders.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("ce",)

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

    def setup(self, context: RunContext) -> None:
        """Load the base, attach the adapter. Raises ConfigError where files are missing."""
        self.model.setup(context)

    def summary(self) -> list[str]:
        """Return what was loaded, how attention is computed, and what it takes of memory."""
        form = "as written" if self.text is None else self.text.fingerprint
        prompt = f"language {self.language or 'left to the model'}, texts scored {form}"
        return [*self.model.describe(), prompt]

    def outline(self) -> list[str]:
        """Return parameters and memory at real size, from the base's configuration alone."""
        return self.model.outline()

    # ---------------------------------------------------------------------------- training

    def counts(self, batch: FeatureBatch | SpeechBatch) -> dict[str, Tensor]:
        """Return the tokens of all transcripts, their ends included."""
        return {"ce": self.model.label_counts(batch.texts).sum().double()}

    def step(self, batch: FeatureBatch | SpeechBatch) -> dict[str, LossSum]:
        """Return the cross-entropy summed over the tokens of the transcripts."""
        encoded, chunks = self._encoded(batch)
        total, count = self.model.loss(encoded, chunks, batch.texts, self.language)
        return {"ce": LossSum(total=total, count=count)}

    # -------------------------------------------------------------------------- evaluation

    def evaluate(self, batch: FeatureBatch | SpeechBatch) -> dict[str, MetricSum]:
        """Return loss per token, and character and word errors per reference unit."""
        encoded, chunks = self._encoded(batch)
        total, count = self.model.loss(encoded, chunks, batch.texts, self.language)
        word_errors = character_errors = dense_errors = ErrorCounts()
        for heard, said in zip(self._heard(encoded, chunks), batch.texts, strict=True):
            reference, hypothesis = self._normal(said), self._normal(heard)
            word_errors += count_errors(words(reference), words(hypothesis))
            character_errors += count_errors(characters(reference), characters(hypothesis))
            dense_errors += count_errors(
                characters(reference, spaces=False), characters(hypothesis, spaces=False)
            )
        return {
            "loss": MetricSum(total=total, count=count),
            "cer": _rate(character_errors),
            "cer_without_spaces": _rate(dense_errors),
            "wer": _rate(word_errors),
        }

    def transcribe(self, batch: FeatureBatch | SpeechBatch) -> list[Transcript]:
        """Return what is heard in each utterance."""
        texts = self._heard(*self._encoded(batch))
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
        shown = min(limit, len(batch))
        encoded, chunks = self._encoded(batch)
        encoded, chunks = encoded[: sum(chunks[:shown])], chunks[:shown]
        adapted = self._heard(encoded, chunks)
        with self.unadapted():
            unadapted = self._heard(encoded, chunks)
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
            for row in range(shown)
        ]

    # ----------------------------------------------------------------------------- details

    @property
    def sample_rate(self) -> int:
        """Sample rate of audio, in Hz."""
        return SAMPLE_RATE

    def _normal(self, text: str) -> str:
        return text if self.text is None else self.text(text)

    def _encoded(self, batch: FeatureBatch | SpeechBatch) -> tuple[Tensor, tuple[int, ...]]:
        """Return (C, R, W) rows of the encoder and the chunks of each utterance."""
        if isinstance(batch, SpeechBatch):
            features, chunks = self._listen(batch)
            return self.model.encode(features), chunks
        if batch.encoded is not None:
            return batch.encoded, batch.chunks
        if batch.features is None:
            raise ConfigError("a batch needs features or encoder outputs; it has neither")
        return self.model.encode(batch.features), batch.chunks

    def _listen(self, batch: SpeechBatch) -> tuple[Tensor, tuple[int, ...]]:
        """Return (C, 128, 3000) features of audio, each utterance without its batch's padding."""
        lengths = batch.audio_lengths.tolist()
        rows = batch.audio.float().cpu()
        found = [
            self._features(row[:length].contiguous())
            for row, length in zip(rows, lengths, strict=True)
        ]
        chunks = tuple(len(each) for each in found)
        return torch.cat(found).to(batch.audio.device), chunks

    def _heard(self, encoded: Tensor, chunks: tuple[int, ...]) -> list[str]:
        """Return the text of each utterance; parts of long ones go through the model side by side."""
        parts = [list(_parts(count, self.prompt_chunks)) for count in chunks]
        flat = tuple(size for sizes in parts for size in sizes)
        texts = iter(self.model.generate(encoded, flat, self.language))
        return [" ".join(filter(None, (next(texts).strip() for _ in sizes))) for sizes in parts]


def _parts(count: int, most: int) -> Iterator[int]:
    """Yield sizes of at most ``most`` that sum to ``count``."""
    for start in range(0, count, most):
        yield min(most, count - start)


def _rate(errors: ErrorCounts) -> MetricSum:
    return MetricSum(total=errors.errors, count=errors.reference_length)
