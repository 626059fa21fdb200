"""Masked prediction of random-projection tokens from noisy speech: the NEST task."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from components.encoders.masks import valid_frames
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.metrics.codebook_use import CodebookUse
from components.quantizers.random_projection import RandomProjectionQuantizer
from core.contracts import (
    Artifact,
    Encoder,
    Features,
    LossSum,
    MetricSum,
    NoisySpeechBatch,
    Padded,
    RunContext,
    Skipped,
    Task,
)
from core.errors import ConfigError
from core.registry import register
from core.train.parameters import parameter_table


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedSpeech:
    """A batch whose targets are known and whose masks are drawn.

    Args:
        ids: utterance ids.
        skipped: what the plan had put into this batch and could not be used.
        seconds: of real speech.
        padded_seconds: of speech and padding.
        features: (B, T, F) of noisy speech, not masked yet.
        lengths: (B,) int64 frames.
        mask: (B, T) bool, frames that are hidden from the encoder.
        targets: (B, T', C) int64 ids of clean speech.
        counted: (B, T') bool on the host, targets that the loss counts.
        valid: (B, T') bool, targets that stand for real frames.
        short: utterances in which no whole block fits.
    """

    ids: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    seconds: float
    padded_seconds: float
    features: Tensor
    lengths: Tensor
    mask: Tensor
    targets: Tensor
    counted: Tensor
    valid: Tensor
    short: int

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> MaskedSpeech:
        """Return the batch itself: it is made on the device that computes."""
        return self


@register("task", "masked_prediction")
class MaskedPredictionTask(Task):
    """Predicts tokens of clean speech from masked, noisy speech (NEST, Huang et al. 2024).

    Targets come from the clean features, unmasked and normalised with their own statistics; the
    encoder gets the noisy features with blocks of frames replaced; the loss is the cross-entropy of
    the targets that lie in the blocks. Where NeMo 2.7 behaves otherwise than one would want, this
    is what is done here, and which option is faithful instead:

    * A step without a counted target moves no weight and is logged as such; NeMo's loss is NaN.
    * The loss of a step is the mean over the counted targets of all micro-batches and ranks; NeMo
      averages the means of ranks, whatever they counted.
    * In evaluation the mask of an utterance depends on its id and the seed alone, and figures are
      sums over all ranks; NeMo draws anew each time and reports rank 0. The noise of validation is
      fixed likewise by the data module.
    * Which items stay clean, how long noisy speech is and who is mixed with whom are options of the
      augmentation, batch statistics over padding is one of the encoder (``batch_norm_over``).
    * Masking the encoder's input is the only place of masking; NeMo's other one, after the
      subsampling, crashes or trains no subsampling there, and is not offered.

    Args:
        features: waveform to frames.
        masking: which frames are hidden, and what stands in their place.
        quantizer: frames to targets; its ``stack`` equals the encoder's subsampling.
        encoder: frames to hidden states; sized for the features at setup.
        head: hidden states to logits for each codebook; sized at setup.
        loss: cross-entropy of counted targets.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("masked_prediction",)
    metric_names: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "counted_share",
        "short_share",
        "target_perplexity",
    )

    def __init__(
        self,
        *,
        features: Features,
        masking: RandomBlockMasking,
        quantizer: RandomProjectionQuantizer,
        encoder: Encoder,
        head: MultiSoftmaxHead,
        loss: MaskedPredictionLoss,
    ) -> None:
        super().__init__()
        if quantizer.stack != encoder.subsampling:
            raise ConfigError(
                f"task.quantizer.stack={quantizer.stack} must equal the encoder's subsampling of "
                f"{encoder.subsampling}: each hidden state predicts one target"
            )
        self.features = features
        self.masking = masking
        self.quantizer = quantizer
        self.encoder = encoder
        self.head = head
        self.loss = loss
        self.use = CodebookUse()
        self._seed = 0
        self._metrics: dict[str, MetricSum] = {}

    def setup(self, context: RunContext) -> None:
        """Create all parameters; their sizes follow from the features and the quantizer."""
        self._seed = context.seed
        self._size()

    def _size(self) -> None:
        books, size = self.quantizer.num_books, self.quantizer.codebook_size
        self.encoder.setup(input_dim=self.features.num_bins)
        self.head.setup(input_dim=self.encoder.output_dim, codebook_size=size, num_books=books)
        self.quantizer.setup(input_dim=self.features.num_bins)
        self.masking.setup(input_dim=self.features.num_bins)
        self.use.setup(num_books=books, codebook_size=size)

    def summary(self) -> list[str]:
        """Return which implementations of the loss and of the target search run."""
        device = self.head.weight.device
        return [f"loss {self.loss.describe(device)}", f"targets {self.quantizer.describe(device)}"]

    def outline(self) -> list[str]:
        """Return the parameter table."""
        with torch.device("meta"):
            self._size()
        return parameter_table(self)

    def compile_targets(self) -> tuple[nn.Module, ...]:
        """Compile the encoder; the loss and the features run as they are."""
        return (self.encoder,) if isinstance(self.encoder, nn.Module) else ()

    # ---------------------------------------------------------------------------- training

    def prepare(self, batch: NoisySpeechBatch) -> MaskedSpeech:
        """Compute features and targets, and draw the masks."""
        return self._masked(batch, generators=None)

    def counts(self, batch: MaskedSpeech) -> dict[str, Tensor]:
        """Return the number of counted targets, over all codebooks."""
        count = int(batch.counted.sum()) * self.quantizer.num_books
        device = batch.features.device
        return {"masked_prediction": torch.tensor(count, dtype=torch.float64, device=device)}

    def step(self, batch: MaskedSpeech) -> dict[str, LossSum]:
        """Return the summed cross-entropy with the number of counted targets."""
        total, sums = self._predict(batch)
        self.use.update(batch.targets, batch.valid)
        self._metrics = {
            **sums,
            "target_perplexity": MetricSum(total=self.use.perplexity(), count=1.0),
        }
        return {"masked_prediction": LossSum(total=total, count=sums["accuracy"].count)}

    def train_metrics(self) -> dict[str, MetricSum]:
        """Return accuracy on counted targets, their share, that of short speech, codes in use."""
        return self._metrics

    # -------------------------------------------------------------------------- evaluation

    def evaluate(self, batch: NoisySpeechBatch) -> dict[str, MetricSum]:
        """Return loss and accuracy over counted targets, and how much was counted."""
        masked = self._masked(batch, generators=self._generators(batch.ids))
        total, sums = self._predict(masked)
        return {"loss": MetricSum(total=total, count=sums["accuracy"].count), **sums}

    def artifacts(self, batch: NoisySpeechBatch, *, limit: int) -> list[Artifact]:
        """Return clean and noisy audio, and pictures of what is heard and what is hidden."""
        from components.visuals.masked import masked_speech_artifacts  # Needs matplotlib.

        clean, _ = self._features(batch)
        masked = self._masked(batch, generators=self._generators(batch.ids))
        shown = self.masking(masked.features, masked.mask)
        found: list[Artifact] = []
        for row in range(min(limit, len(batch))):
            end = int(masked.lengths[row])
            found += masked_speech_artifacts(
                utterance=batch.ids[row],
                clean_audio=_row(batch.clean_audio, row),
                noisy_audio=_row(batch.noisy_audio, row),
                sample_rate=batch.sample_rate,
                clean_features=clean.values[row, :end].float().cpu().numpy(),
                masked_features=shown[row, :end].float().cpu().numpy(),
                seconds_per_frame=self.features.seconds_per_frame,
            )
        return found

    # ----------------------------------------------------------------------------- details

    def _features(self, batch: NoisySpeechBatch) -> tuple[Padded, Padded]:
        """Return clean and noisy features: computed, or as they were given."""
        if batch.clean_audio is None or batch.noisy_audio is None:
            assert batch.clean_features is not None  # the batch checks that one form is whole
            assert batch.noisy_features is not None
            return batch.clean_features, batch.noisy_features
        clean = self.features(batch.clean_audio.values, batch.clean_audio.lengths)
        noisy = self.features(batch.noisy_audio.values, batch.noisy_audio.lengths)
        return (
            Padded(values=clean[0], lengths=clean[1]),
            Padded(values=noisy[0], lengths=noisy[1]),
        )

    def _masked(
        self, batch: NoisySpeechBatch, *, generators: Sequence[torch.Generator] | None
    ) -> MaskedSpeech:
        clean, noisy = self._features(batch)
        targets = self.quantizer(clean.values)
        frames, lengths = noisy.values.shape[1], noisy.lengths.cpu()
        mask = self.masking.draw(lengths, frames=frames, generators=generators)
        counted = self.loss.counted(mask, stack=self.quantizer.stack)
        size = min(targets.shape[1], counted.shape[1])
        return MaskedSpeech(
            ids=batch.ids,
            skipped=batch.skipped,
            seconds=batch.seconds,
            padded_seconds=batch.padded_seconds,
            features=noisy.values,
            lengths=noisy.lengths,
            mask=mask.to(noisy.values.device, non_blocking=True),
            targets=targets[:, :size],
            counted=counted[:, :size],
            valid=valid_frames(-(-clean.lengths // self.quantizer.stack), size),
            short=int(self.masking.too_short(lengths).sum()),
        )

    def _predict(self, batch: MaskedSpeech) -> tuple[Tensor, dict[str, MetricSum]]:
        """Return the summed loss, and accuracy and shares as sums."""
        hidden, _ = self.encoder(self.masking(batch.features, batch.mask), batch.lengths)
        # A causal encoder gives a frame more than there are targets.
        size = min(hidden.shape[1], batch.targets.shape[1])
        counted = batch.counted[:, :size]
        output = self.loss(hidden[:, :size], self.head, batch.targets[:, :size], counted)
        count = float(counted.sum())
        return output.total, {
            "accuracy": MetricSum(total=output.correct, count=count * self.quantizer.num_books),
            "counted_share": MetricSum(total=count, count=batch.valid.sum()),
            "short_share": MetricSum(total=float(batch.short), count=float(len(batch))),
        }

    def _generators(self, ids: Sequence[str]) -> list[torch.Generator]:
        return [
            torch.Generator().manual_seed(zlib.crc32(f"{self._seed}:{utterance}".encode()))
            for utterance in ids
        ]


def _row(padded: Padded | None, row: int) -> Tensor | None:
    """Return the real samples of an utterance, where there is audio."""
    if padded is None:
        return None
    return padded.values[row, : int(padded.lengths[row])].float().cpu()
