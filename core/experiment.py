"""The record that an experiment file configures and the loop runs."""

from __future__ import annotations

from dataclasses import dataclass

from core.contracts import (
    DataModule,
    OptimizerFactory,
    PairReader,
    PairSource,
    Scheduler,
    Task,
    Tracker,
)
from core.train.callback import Callback
from core.train.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One stage of training, complete.

    Args:
        name: used in the run directory and the tracker.
        task: modules and losses.
        data: training, validation and test batches.
        optimizer: called with the task once its parameters are final.
        scheduler: learning-rate factor by step.
        trainer: settings of the loop.
        callbacks: what happens around steps: validation, checkpoints, progress.
        trackers: sinks beside ``metrics.jsonl``, which is always written.
        seed: of weights, data order and augmentation.
    """

    name: str
    task: Task
    data: DataModule
    optimizer: OptimizerFactory
    scheduler: Scheduler
    trainer: Trainer
    callbacks: tuple[Callback, ...] = ()
    trackers: tuple[Tracker, ...] = ()
    seed: int = 0

    def introduce(self) -> None:
        """Tell the data what the task can read, if both have a say; before either is set up."""
        if isinstance(self.task, PairReader) and isinstance(self.data, PairSource):
            self.data.expect(self.task.pair_form())
