"""Connectionist temporal classification from waveforms: the Stage 1 task."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from components.decoders.alignment import align_batch
from components.decoders.windows import windowed_logits
from components.losses.ctc import CTCLoss
from components.metrics.error_rate import ErrorCounts, characters, count_errors, words
from components.metrics.report import ErrorReport
from core.contracts import (
    Artifact,
    Augmentation,
    Decoder,
    Encoder,
    Features,
    Head,
    Hypothesis,
    LossSum,
    MetricSum,
    RunContext,
    SpeechBatch,
    Tokenizer,
    TokenTime,
    TranscribingTask,
    Transcript,
)
from core.registry import register
from core.train.parameters import parameter_table


@register("task", "ctc")
class CTCTask(TranscribingTask):
    """Features, encoder and head trained with CTC; decoded for word and character error rates.

    An utterance whose transcript needs more frames than the encoder gives has no alignment: it
    takes no part in the loss, nor in its count, and ``infeasible`` says how many there were.

    Args:
        features: waveform to frames.
        encoder: frames to hidden states; sized for the features at setup.
        head: hidden states to logits; sized for the encoder and the tokenizer at setup.
        loss: per-utterance CTC losses.
        tokenizer: the one that the data were encoded with.
        decoder: used for error rates and transcripts.
        augmentation: of features, in training only; None for none.
        window_seconds: audio longer than this is transcribed in windows, so that memory does not
            grow with its square; half as long again is the most that is encoded at once.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("ctc",)
    metric_names: ClassVar[tuple[str, ...]] = ("infeasible",)

    def __init__(
        self,
        *,
        features: Features,
        encoder: Encoder,
        head: Head,
        loss: CTCLoss,
        tokenizer: Tokenizer,
        decoder: Decoder,
        augmentation: Augmentation | None = None,
        window_seconds: float = 30.0,
    ) -> None:
        super().__init__()
        self.features = features
        self.encoder = encoder
        self.head = head
        self.loss = loss
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.augmentation = augmentation
        self.window_seconds = window_seconds
        self._infeasible = MetricSum(total=0.0, count=0.0)

    def setup(self, context: RunContext) -> None:
        """Size the encoder for the features and the head for the vocabulary."""
        self.encoder.setup(input_dim=self.features.num_bins)
        self.head.setup(input_dim=self.encoder.output_dim, vocab_size=self.tokenizer.vocab_size)

    def summary(self) -> list[str]:
        """Return which implementation of the loss runs."""
        return [f"loss {self.loss.describe(self.head.weight.device)}"]

    def outline(self) -> list[str]:
        """Return the encoder's parameter table; the head waits for the tokenizer."""
        with torch.device("meta"):
            self.encoder.setup(input_dim=self.features.num_bins)
        return [*parameter_table(self), "the head is sized once the tokenizer is fitted"]

    # ---------------------------------------------------------------------------- training

    def counts(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Return the target tokens of the utterances that have an alignment."""
        feasible = self.loss.feasible(self._frames(batch), batch.targets, batch.target_lengths)
        return {"ctc": (batch.target_lengths * feasible).sum().double()}

    def step(self, batch: SpeechBatch) -> dict[str, LossSum]:
        """Return the CTC loss summed over utterances, with target tokens as its count."""
        views = self.loss.views
        hidden, lengths = self._encode(batch, views=views)
        targets = batch.targets.repeat(views, 1)
        target_lengths = batch.target_lengths.repeat(views)
        output = self.loss(hidden, self.head, lengths, targets, target_lengths)
        self._infeasible = MetricSum(
            total=(~output.feasible).sum(), count=float(output.feasible.numel())
        )
        return {
            "ctc": LossSum(
                total=output.total / views,
                count=(target_lengths * output.feasible).sum() / views,
            )
        }

    def train_metrics(self) -> dict[str, MetricSum]:
        """Return the share of utterances without an alignment."""
        return {"infeasible": self._infeasible}

    def compile_targets(self) -> tuple[nn.Module, ...]:
        """Compile the encoder; the loss and the features run as they are."""
        return (self.encoder,) if isinstance(self.encoder, nn.Module) else ()

    # -------------------------------------------------------------------------- evaluation

    def evaluate(self, batch: SpeechBatch) -> dict[str, MetricSum]:
        """Return loss per token, and word and character errors per reference unit."""
        hidden, lengths = self._encode(batch)
        output = self.loss(hidden, self.head, lengths, batch.targets, batch.target_lengths)
        hypotheses = self.decoder(self.head(hidden), lengths)
        word_errors = character_errors = ErrorCounts()
        for hypothesis, reference in zip(hypotheses, batch.texts, strict=True):
            text = self.tokenizer.decode(hypothesis.ids)
            word_errors += count_errors(words(reference), words(text))
            character_errors += count_errors(characters(reference), characters(text))
        return {
            "loss": MetricSum(
                total=output.total,
                count=(batch.target_lengths * output.feasible).sum(),
            ),
            "wer": MetricSum(total=word_errors.errors, count=word_errors.reference_length),
            "cer": MetricSum(
                total=character_errors.errors, count=character_errors.reference_length
            ),
        }

    def transcribe(self, batch: SpeechBatch) -> list[Transcript]:
        """Return what is heard in each utterance, with the times of its tokens."""
        if batch.audio.shape[1] > self.window_seconds * batch.sample_rate:
            logits, lengths = windowed_logits(
                self._logits,
                batch.audio,
                batch.audio_lengths,
                window=self._samples(self.window_seconds),
                context=self._samples(self.window_seconds / 4),
                samples_per_frame=self._samples_per_frame,
            )
        else:
            logits, lengths = self._logits(batch.audio, batch.audio_lengths)
        hypotheses = self.decoder(logits, lengths)
        return [
            self._transcript(utterance, hypothesis)
            for utterance, hypothesis in zip(batch.ids, hypotheses, strict=True)
        ]

    def error_report(self) -> ErrorReport:
        """Return an empty report of word and character errors."""
        return ErrorReport()

    def align(self, batch: SpeechBatch) -> list[tuple[TokenTime, ...]]:
        """Return when each token of the given transcripts is spoken.

        Raises:
            DataError: a transcript needs more frames than its audio gives.
        """
        hidden, lengths = self._encode(batch)
        log_probs = self.head(hidden).float().log_softmax(-1)
        alignments = align_batch(log_probs, lengths, batch.targets, batch.target_lengths)
        return [self._transcript("", alignment).tokens for alignment in alignments]

    def artifacts(self, batch: SpeechBatch, *, limit: int) -> list[Artifact]:
        """Return audio, texts, spectrogram, posteriors and alignment of the first utterances."""
        from components.visuals.report import utterance_artifacts  # Needs matplotlib.

        features, frames = self.features(batch.audio, batch.audio_lengths)
        hidden, lengths = self.encoder(features, frames)
        logits = self.head(hidden)
        log_probs = logits.float().log_softmax(-1)
        hypotheses = self.decoder(logits, lengths)
        feasible = self.loss.feasible(lengths, batch.targets, batch.target_lengths)
        found: list[Artifact] = []
        for row in range(min(limit, len(batch))):
            end, size = int(lengths[row]), int(batch.target_lengths[row])
            aligned: tuple[TokenTime, ...] = ()
            if bool(feasible[row]) and size and end:
                one = slice(row, row + 1)
                spans = align_batch(
                    log_probs[one, :end],
                    lengths[one],
                    batch.targets[one, :size],
                    batch.target_lengths[one],
                )
                aligned = self._transcript("", spans[0]).tokens
            found += utterance_artifacts(
                utterance=batch.ids[row],
                audio=batch.audio[row, : int(batch.audio_lengths[row])].float().cpu().numpy(),
                sample_rate=batch.sample_rate,
                features=features[row, : int(frames[row])].float().cpu().numpy(),
                log_probs=log_probs[row, :end].cpu().numpy(),
                tokens=[self.tokenizer.token(i) for i in range(self.tokenizer.vocab_size)],
                aligned=aligned,
                seconds_per_frame=self.seconds_per_frame,
                seconds_per_feature=self.features.seconds_per_frame,
                reference=batch.texts[row] if batch.texts else "",
                hypothesis=self.tokenizer.decode(hypotheses[row].ids),
            )
        return found

    # ----------------------------------------------------------------------------- details

    @property
    def sample_rate(self) -> int:
        """Sample rate that the features expect, in Hz."""
        return self.features.sample_rate

    @property
    def seconds_per_frame(self) -> float:
        """Seconds between two frames of the encoder's output."""
        return self.features.seconds_per_frame * self.encoder.subsampling

    def _frames(self, batch: SpeechBatch) -> Tensor:
        return self.encoder.output_lengths(self.features.output_lengths(batch.audio_lengths))

    @property
    def _samples_per_frame(self) -> int:
        return round(self.seconds_per_frame * self.sample_rate)

    def _samples(self, seconds: float) -> int:
        """Return whole output frames, in samples."""
        frames = round(seconds / self.seconds_per_frame)
        return max(frames, 1) * self._samples_per_frame

    def _logits(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = self.features(audio, lengths)
        hidden, frames = self.encoder(features, frames)
        return self.head(hidden), frames

    def _encode(self, batch: SpeechBatch, *, views: int = 1) -> tuple[Tensor, Tensor]:
        with torch.no_grad():  # Features have no parameters.
            features, lengths = self.features(batch.audio, batch.audio_lengths)
            if views > 1:
                features, lengths = features.repeat(views, 1, 1), lengths.repeat(views)
            if self.training and self.augmentation is not None:
                features = self.augmentation(features, lengths)
        return self.encoder(features, lengths)

    def _transcript(self, utterance: str, hypothesis: Hypothesis) -> Transcript:
        step = self.seconds_per_frame
        tokens = tuple(
            TokenTime(
                token=self.tokenizer.token(index),
                start=round(start * step, 4),
                end=round(end * step, 4),
                probability=probability,
            )
            for index, start, end, probability in zip(
                hypothesis.ids,
                hypothesis.starts,
                hypothesis.ends,
                hypothesis.probabilities,
                strict=True,
            )
        )
        return Transcript(
            id=utterance,
            text=self.tokenizer.decode(hypothesis.ids),
            tokens=tokens,
            score=hypothesis.score,
        )
