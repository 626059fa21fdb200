"""A finished model, ready for use: from a run directory or a single checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lhotse.cut import MonoCut

from core.checkpoint.format import ASSETS, read_inference_model
from core.checkpoint.locate import resolve_checkpoint
from core.checkpoint.match import load_strict
from core.config.build import build
from core.config.compose import compose_config, compose_saved
from core.contracts import (
    Adapted,
    DataModule,
    FeatureBatch,
    ProbingTask,
    RunContext,
    SpeechBatch,
    Task,
    TranscribingTask,
    Transcript,
)
from core.contracts.weights import ModelFolder
from core.data.audio import AudioError, recording
from core.data.speech import SpeechCollator
from core.dist.ranks import pick_device
from core.errors import CheckpointError, ConfigError
from core.experiment import Experiment
from core.model_folder import find_model_folder

ROOM = 30.0
"""Seconds that a file takes up in a batch, at most, before it takes the place of several."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A task with trained weights, in evaluation mode.

    Args:
        task: on ``device``.
        data: of the run; opens sources for evaluation.
        checkpoint: that the weights are from.
        device: that the task computes on.
        adapted: whether what it adds to a frozen model can be taken away for comparison.
        notes: lines on what the user should know of how it was loaded.
    """

    task: TranscribingTask
    data: DataModule
    checkpoint: Path
    device: torch.device
    adapted: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A task of any kind with trained weights.

    Args:
        task: with its weights.
        data: of the run.
        checkpoint: that the weights are from.
        experiment: that the task is of; its trackers are not started.
        adapted: whether what it adds to a frozen model can be taken away for comparison.
        notes: lines on what the user should know of how it was loaded.
    """

    task: Task
    data: DataModule
    checkpoint: Path
    experiment: Experiment
    adapted: bool = False
    notes: tuple[str, ...] = ()


def load_model(
    target: Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    weights: Literal["best", "latest"] = "best",
    overrides: Sequence[str] = (),
    base: str | None = None,
) -> Model:
    """Rebuild a model from what its checkpoint holds: configuration, assets, weights.

    Averaged weights are used where the run kept them.

    Args:
        target: run directory, its checkpoints folder, one checkpoint, or a folder of weights that
            stands for a model, such as an adapter.
        device: to compute on.
        weights: which checkpoint of a run.
        overrides: of the saved configuration, such as ``task.decoder=@decoder/prefix_beam``.
        base: frozen model that a folder of weights is used with; None for the one it names.

    Raises:
        CheckpointError: nothing complete is there, its weights do not fit its configuration, or
            the task does not transcribe.
        ConfigError: the saved configuration or an override is not valid.
    """
    loaded = load_task(target, weights=weights, overrides=overrides, base=base)
    if not isinstance(loaded.task, TranscribingTask):
        probing = isinstance(loaded.task, ProbingTask)
        hint = f"; python -m core.evaluate {target} --probe tells what it learnt" if probing else ""
        raise CheckpointError(
            f"{loaded.checkpoint} holds a {type(loaded.task).__name__}, which does not transcribe"
            f"{hint}"
        )
    place = pick_device(device, 0)
    loaded.task.to(place).eval()
    return Model(
        task=loaded.task,
        data=loaded.data,
        checkpoint=loaded.checkpoint,
        device=place,
        adapted=loaded.adapted,
        notes=loaded.notes,
    )


def load_task(
    target: Path,
    *,
    weights: Literal["best", "latest"] = "best",
    overrides: Sequence[str] = (),
    base: str | None = None,
) -> Loaded:
    """Rebuild a task of any kind, on the CPU; see :func:`load_model`.

    Raises:
        CheckpointError: nothing complete is there, or its weights do not fit its configuration.
        ConfigError: the saved configuration or an override is not valid.
    """
    folder = find_model_folder(target)
    if folder is not None:
        return _load_folder(folder, target, overrides=overrides, base=base)
    if base is not None:
        raise ConfigError(
            f"--base {base}: {target} is a run, which has its own base; override it with "
            "--set task.model.base=FOLDER, if that is the same model in another place"
        )
    checkpoint = resolve_checkpoint(target, prefer=weights)
    composed = compose_saved(checkpoint, overrides)
    experiment = build(composed.config)
    context = RunContext(assets=checkpoint / ASSETS, training=False, seed=experiment.seed)
    experiment.introduce()
    experiment.data.setup(context)
    experiment.task.setup(context)
    load_strict(experiment.task, read_inference_model(checkpoint), source=str(checkpoint))
    return Loaded(
        task=experiment.task,
        data=experiment.data,
        checkpoint=checkpoint,
        experiment=experiment,
        adapted=isinstance(experiment.task, Adapted),
    )


def _load_folder(
    folder: ModelFolder, target: Path, *, overrides: Sequence[str], base: str | None
) -> Loaded:
    """Build the task that a folder of weights is for, and load them."""
    config = folder.experiment(base=base)
    compose_config(config, overrides)
    experiment = build(config)
    with tempfile.TemporaryDirectory(prefix="sori-") as assets:
        notes = folder.write_assets(Path(assets), experiment.task)
        context = RunContext(assets=Path(assets), training=False, seed=experiment.seed)
        experiment.introduce()
        experiment.data.setup(context)
        experiment.task.setup(context)
    report = folder.load(experiment.task)
    return Loaded(
        task=experiment.task,
        data=experiment.data,
        checkpoint=target,
        experiment=experiment,
        adapted=folder.adapts and isinstance(experiment.task, Adapted),
        notes=(*notes, *report.notes),
    )


def file_batches(
    paths: Iterable[Path], *, sample_rate: int, batch_size: int = 1
) -> Iterable[SpeechBatch]:
    """Read audio files as batches, in order; what cannot be read is in their ``skipped``.

    Several channels are averaged: a recording of a conversation has one transcript. A batch has
    room for ``batch_size`` files of :data:`ROOM` seconds, so that one long recording among short
    ones does not multiply memory.
    """
    collate = SpeechCollator(sample_rate=sample_rate, channel="mean", tokenizer=None)
    pending: list[MonoCut | AudioError] = []
    longest = 0.0
    for path in paths:
        cut = _cut(path)
        longest = max(longest, 0.0 if isinstance(cut, AudioError) else cut.duration)
        full = len(pending) == batch_size or (len(pending) + 1) * longest > batch_size * ROOM
        if pending and full:
            yield collate(pending)
            pending, longest = [], 0.0 if isinstance(cut, AudioError) else cut.duration
        pending.append(cut)
    if pending:
        yield collate(pending)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A batch with its transcripts.

    Args:
        batch: on the CPU.
        transcripts: of its utterances, in order.
        baseline: what the model hears without what was adapted; None where that was not asked for.
    """

    batch: SpeechBatch | FeatureBatch
    transcripts: list[Transcript]
    baseline: list[Transcript] | None = None

    def reference(self, row: int) -> str | None:
        """Return the transcript that came with an utterance, None where none did."""
        if not self.batch.texts or self.batch.ids[row] in self.batch.untold:
            return None
        return self.batch.texts[row]

    def speaker(self, row: int) -> str | None:
        """Return who speaks, None where unknown."""
        return self.batch.speakers[row] if self.batch.speakers else None


@torch.no_grad()
def heard(
    model: Model, batches: Iterable[SpeechBatch | FeatureBatch], *, baseline: bool = False
) -> Iterable[Heard]:
    """Pair each batch with its transcripts.

    Args:
        model: to listen with.
        batches: of audio or features, as its task takes them.
        baseline: transcribe with the un-adapted model too; its task must be :class:`Adapted`.
    """
    task = model.task
    for batch in batches:
        if len(batch) == 0:
            yield Heard(batch=batch, transcripts=[], baseline=[] if baseline else None)
            continue
        moved = batch.to(model.device)
        transcripts, before = task.transcribe(moved), None
        if baseline:
            assert isinstance(task, Adapted)
            with task.unadapted():
                before = task.transcribe(moved)
        yield Heard(batch=batch, transcripts=transcripts, baseline=before)


def _cut(path: Path) -> MonoCut | AudioError:
    try:
        audio = recording(path, utterance=str(path))
    except AudioError as error:
        return error
    return audio.to_cut()
