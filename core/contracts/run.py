"""What a run is made of beside its model: data, trackers, and what they are told.

Shapes use B for utterances in a batch, S for samples, T for frames, F for feature bins, D for model
width, U for target tokens and V for vocabulary entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from core.contracts.features import FeatureBatch
from core.contracts.records import Artifact, Batch, SpeechBatch


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


@runtime_checkable
class Exhaustible(Protocol):
    """A batch stream that may have given all there is before its epoch is complete.

    Training then stops as if asked to: it saves, ends with status 0, and the same command goes on
    once there is more.
    """

    @property
    def exhausted(self) -> str | None:
        """What was used up and how to get more, the same on all ranks; None while it goes on."""


@runtime_checkable
class FixedRows(Protocol):
    """A batch stream whose micro-batches all have as many rows, but one an epoch perhaps less.

    A schedule of steps is then one of rows, which a resume can be held to.
    """

    @property
    def rows_per_batch(self) -> int:
        """Rows of a micro-batch."""


class DataModule(Protocol):
    """Everything a stage reads (kind ``data``)."""

    def setup(self, context: RunContext) -> None:
        """Open manifests, build indexes, fit tokenizers or load them from the run's assets."""

    def train_stream(self) -> BatchStream:
        """Return the training batches of this rank."""

    def eval_batches(self, split: str) -> Iterable[Batch]:
        """Return this rank's share of an evaluation split, in a fixed order."""

    def open_split(self, uri: str) -> Iterable[SpeechBatch | FeatureBatch]:
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
