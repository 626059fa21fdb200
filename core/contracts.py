"""What crosses folders: the protocols that components fulfil and the records they exchange.

Shapes use B for utterances in a batch, S for samples, T for frames, F for feature bins, D for model
width, U for target tokens and V for vocabulary entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

# --------------------------------------------------------------------------------------- records


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSum:
    """A loss as a sum over targets, so that ragged batches and ranks can be weighed exactly.

    Args:
        total: scalar, summed over targets, differentiable.
        count: number of targets in ``total``; a scalar tensor or a number.
        weight: factor of this loss in the objective.
    """

    total: Tensor
    count: Tensor | float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSum:
    """A metric as a sum and a count; its value is ``total / count`` after sums over all ranks."""

    total: Tensor | float
    count: Tensor | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An utterance that was left out, and why."""

    id: str
    reason: str
    """Short and countable, such as ``missing file`` or ``non-finite samples``."""
    detail: str = ""


@runtime_checkable
class Batch(Protocol):
    """What the training loop knows of a batch."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the utterances in the batch."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the plan had put into the batch and could not be used."""

    @property
    def seconds(self) -> float:
        """Seconds of real audio in the batch."""

    @property
    def padded_seconds(self) -> float:
        """Seconds that the batch occupies, padding included."""

    def to(self, device: torch.device) -> Self:
        """Return the batch with its tensors on ``device``."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechBatch:
    """Padded audio with transcripts.

    Args:
        ids: utterance ids.
        audio: (B, S) float32 in [-1, 1], zero beyond each length.
        audio_lengths: (B,) int64, samples.
        targets: (B, U) int64 token ids, zero beyond each length; U is 0 where there is no text.
        target_lengths: (B,) int64, tokens.
        sample_rate: of ``audio``, in Hz.
        texts: transcripts as read, before tokenisation.
        speakers: speaker ids, None where unknown.
        skipped: what the plan had put into this batch and could not be used.
    """

    ids: tuple[str, ...]
    audio: Tensor
    audio_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    sample_rate: int
    texts: tuple[str, ...] = ()
    speakers: tuple[str | None, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Seconds of real audio."""
        return float(self.audio_lengths.sum()) / self.sample_rate

    @property
    def padded_seconds(self) -> float:
        """Seconds of audio and padding."""
        return self.audio.numel() / self.sample_rate

    def to(self, device: torch.device) -> SpeechBatch:
        """Return the batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> SpeechBatch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Any) -> SpeechBatch:  # noqa: ANN401
        return replace(
            self,
            audio=move(self.audio),
            audio_lengths=move(self.audio_lengths),
            targets=move(self.targets),
            target_lengths=move(self.target_lengths),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTime:
    """A token with the seconds it spans and the model's probability for it."""

    token: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What a model heard in one utterance."""

    id: str
    text: str
    tokens: tuple[TokenTime, ...] = ()
    score: float = 0.0
    """Log probability of the hypothesis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something to look at or listen to, produced by a task and shown by the trackers.

    Args:
        name: stable over steps, such as ``alignment/utt-17``.
        kind: ``text``, ``audio`` or ``image``.
        value: a string; (S,) float32 samples; or (H, W, 3) uint8 pixels.
        caption: one line, such as the reference transcript.
        sample_rate: in Hz, for audio.
    """

    name: str
    kind: Literal["text", "audio", "image"]
    value: str | np.ndarray[Any, Any]
    caption: str = ""
    sample_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What :meth:`Task.setup` and :meth:`DataModule.setup` may know of the run.

    Args:
        assets: folder for what a run fits and keeps (tokenizers, statistics). It is copied into
            every checkpoint, so a checkpoint stands alone.
        rank: of this process.
        world_size: number of processes.
        seed: of the experiment.
        training: False when a finished model is loaded for use; then nothing is fitted, and a
            missing asset is an error.
    """

    assets: Path
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    training: bool = True


# ------------------------------------------------------------------------------------ components


class Features(Protocol):
    """Waveforms to frames, on the device the model runs on (kind ``features``)."""

    sample_rate: int
    num_bins: int
    seconds_per_frame: float

    def __call__(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, S) samples and (B,) lengths to (B, T, F) features and (B,) frame counts."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) sample counts to (B,) frame counts."""


class Augmentation(Protocol):
    """Distorts features during training; the identity in evaluation (kind ``augmentation``)."""

    def __call__(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) to (B, T, F)."""


class Encoder(Protocol):
    """Frames to hidden states (kind ``encoder``)."""

    output_dim: int
    subsampling: int
    """Input frames for each output frame."""

    def setup(self, *, input_dim: int) -> None:
        """Create what depends on the number of feature bins; called once, before weights load."""

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, T', D) and (B,); frames past a length are zero."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) input frame counts to (B,) output frame counts."""


class Head(Protocol):
    """Hidden states to scores over a vocabulary (kind ``head``)."""

    weight: Tensor
    bias: Tensor | None

    def setup(self, *, input_dim: int, vocab_size: int) -> None:
        """Create the projection; called once, before weights are loaded."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) hidden states to (B, T, V) logits."""


class Tokenizer(Protocol):
    """Text to token ids and back (kind ``tokenizer``). Id 0 is the CTC blank and never text."""

    @property
    def fitted(self) -> bool:
        """Whether the vocabulary is known."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank included. Raises if the tokenizer is not fitted."""

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from transcripts."""

    def encode(self, text: str) -> list[int]:
        """Map text to ids. Raises DataError naming what cannot be encoded."""

    def decode(self, ids: Sequence[int]) -> str:
        """Map ids to text."""

    def token(self, index: int) -> str:
        """Return the printable form of one id."""

    def save(self, directory: Path) -> None:
        """Write the vocabulary as data files."""

    def load(self, directory: Path) -> None:
        """Read what :meth:`save` wrote. Executes nothing."""


class Decoder(Protocol):
    """CTC logits to hypotheses (kind ``decoder``)."""

    def __call__(self, logits: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Map (B, T, V) logits and (B,) frame counts to one best hypothesis an utterance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A decoded token sequence with the frames its tokens occupy.

    Args:
        ids: token ids, blanks removed and repeats collapsed.
        starts: first frame of each token.
        ends: frame after the last one of each token.
        probabilities: of each token.
        score: log probability of the sequence (of the best path, for greedy decoding).
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    score: float = 0.0


class Scheduler(Protocol):
    """Learning-rate factor as a pure function of the step (kind ``scheduler``)."""

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the multiplier of every group's base rate for 1-based optimiser step ``step``.

        Raises ConfigError if the shape needs ``total_steps`` and it is not known.
        """


class OptimizerFactory(Protocol):
    """Builds the optimiser once the modules have their final parameters (kind ``optimizer``)."""

    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return an optimiser over the trainable parameters of ``module``."""


class Tracker(Protocol):
    """A sink for what a run reports (kind ``tracker``). Only rank 0 writes."""

    def start(self, run: RunInfo) -> None:
        """Open the sink; on resume, continue what the same run wrote before."""

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Record scalars named ``split/name``, such as ``train/loss``."""

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        """Record texts, audio and images."""

    def finish(self, status: str) -> None:
        """Close the sink. ``status`` is ``finished``, ``stopped`` or ``failed``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a tracker is told about the run.

    Args:
        directory: the run directory.
        name: the experiment's name.
        hparams: the flattened configuration.
        environment: git revision, packages, device, kernels.
        resumed_step: step that the run goes on from, 0 for a new run.
    """

    directory: Path
    name: str
    hparams: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    resumed_step: int = 0


class BatchStream(Protocol):
    """A resumable source of training batches for one rank."""

    epoch: int
    """Of the next batch, counted from 0."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Micro-batches that each rank gets in an epoch; None for endless streams."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the current epoch, then return and point at the next epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Position after the last yielded batch: JSON-serialisable, the same on all ranks."""

    def load_state_dict(self, state: Mapping[str, Any], *, allow_data_change: bool = False) -> None:
        """Go to a position.

        Raises:
            DataError: the data are not those of the state, and ``allow_data_change`` is not set.
        """


class DataModule(Protocol):
    """Everything a stage reads (kind ``data``)."""

    def setup(self, context: RunContext) -> None:
        """Open manifests, build indexes, fit tokenizers or load them from the run's assets."""

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""

    def eval_batches(self, split: str) -> Iterable[Batch]:
        """Return this rank's share of an evaluation split, in a fixed order."""

    def open_split(self, uri: str) -> Iterable[Batch]:
        """Return a source, or a split by its name, for evaluation; transcripts untokenised.

        So an utterance whose text the tokenizer lacks a symbol for is scored, not left out.
        """

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Names of the splits that validation runs on."""

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Names of the splits that are evaluated once, with the best weights."""

    def fingerprint(self) -> dict[str, str]:
        """Return a digest for each manifest."""

    def summary(self) -> list[str]:
        """Return lines for the run header: hours, utterances, what filters dropped."""


class Task(nn.Module, ABC):
    """A stage: it owns its modules and says how a batch becomes losses.

    The loop calls :meth:`prepare` and :meth:`counts` for all micro-batches of a step, sums the
    counts over micro-batches and ranks, and only then runs each micro-batch forward and backward
    with its losses divided by those sums. Gradients therefore weigh targets, never batches.

    Names of losses and metrics are declared, not discovered: ranks reduce them as one vector and
    must agree on its layout even when one of them has an empty batch.
    """

    loss_names: ClassVar[tuple[str, ...]]
    """Keys of what :meth:`step` and :meth:`counts` return."""
    metric_names: ClassVar[tuple[str, ...]] = ()
    """Keys of what :meth:`train_metrics` returns."""

    @abstractmethod
    def setup(self, context: RunContext) -> None:
        """Size what depends on fitted assets. Called once after DataModule.setup."""

    def prepare(self, batch: Any) -> Any:  # noqa: ANN401
        """Draw what a step needs before its targets can be counted, such as masks; no gradient."""
        return batch

    @abstractmethod
    def counts(self, batch: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the number of targets behind each loss of :meth:`step`, as float64 scalars."""

    @abstractmethod
    def step(self, batch: Any) -> dict[str, LossSum]:  # noqa: ANN401
        """Return the losses of a training batch."""

    @abstractmethod
    def evaluate(self, batch: Any) -> dict[str, MetricSum]:  # noqa: ANN401
        """Return the metrics of an evaluation batch; no gradient."""

    def artifacts(self, batch: Any, *, limit: int) -> list[Artifact]:  # noqa: ANN401
        """Return what to show for up to ``limit`` utterances of an evaluation batch."""
        return []

    def train_metrics(self) -> dict[str, MetricSum]:
        """Return extra sums of the last :meth:`step`, such as an accuracy."""
        return {}

    def summary(self) -> list[str]:
        """Return lines for the run header: which kernels, which fallbacks."""
        return []

    def outline(self) -> list[str]:
        """Return lines on the model's size for ``--dry-run``: no data, no weights, no memory."""
        return []

    def compile_targets(self) -> tuple[nn.Module, ...]:
        """Return the submodules that ``trainer.compile`` compiles, each with dynamic shapes."""
        return ()

    def forward(self, batch: Batch) -> dict[str, LossSum]:
        """Run :meth:`step`; a batch without utterances gives a zero that reaches every parameter.

        A rank whose whole batch was skipped must still take part in the gradient reduction.
        """
        if len(batch) > 0:
            return self.step(batch)
        parameters = [p for p in self.parameters() if p.requires_grad]
        zero = torch.stack([(p * 0.0).sum() for p in parameters]).sum()
        return {"empty": LossSum(total=zero, count=0.0)}


class ErrorReport(Protocol):
    """Collects hypotheses beside their references and tells the error rates."""

    def add(self, *, id: str, reference: str, hypothesis: str, speaker: str | None = None) -> Any:  # noqa: ANN401
        """Compare one utterance."""

    def lines(self, *, worst: int = 10) -> list[str]:
        """Return the report for people."""

    def as_dict(self, *, worst: int = 10) -> dict[str, Any]:
        """Return the report for JSON."""


class TranscribingTask(Task):
    """A task whose model turns speech into text."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Sample rate that the model expects, in Hz."""

    @abstractmethod
    def transcribe(self, batch: Any) -> list[Transcript]:  # noqa: ANN401
        """Return what is heard in each utterance; no gradient."""

    @abstractmethod
    def error_report(self) -> ErrorReport:
        """Return an empty report with the error rates that suit the task."""
