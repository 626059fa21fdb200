"""Looks into the model at validation: hypotheses, spectrograms, posteriors, alignments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from core.contracts import Artifact, Batch
from core.registry import register
from core.train.callback import Callback
from core.train.rng import rng_set_aside

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "samples")
class Samples(Callback):
    """Sends the task's artifacts for the first utterances of the first split to the trackers.

    The same utterances are shown every time, so that progress can be seen on them.

    Args:
        limit: utterances to show.
        every: validations between two looks; the first validation is always shown.
    """

    priority = 40

    def __init__(self, *, limit: int = 2, every: int = 1) -> None:
        self.limit = limit
        self.every = every
        self._validations = 0

    def on_validation_end(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        """Show the utterances, on the main rank."""
        self._validations += 1
        if (self._validations - 1) % self.every or not loop.ranks.is_main:
            return
        split = loop.experiment.data.eval_splits[0]
        batch = next((b for b in loop.experiment.data.eval_batches(split) if len(b)), None)
        if batch is None:
            return
        was_training = loop.task.training
        loop.task.eval()
        try:
            artifacts = self._show(loop, batch)
        finally:
            loop.task.train(was_training)
        loop.tracker.artifacts(artifacts, step=loop.progress.step)

    def _show(self, loop: Loop, batch: Batch) -> list[Artifact]:
        """Return the task's artifacts; none, and a line, if they cannot be made.

        A picture is not worth a run: the other ranks are already waiting in the next step.
        """
        try:
            with torch.no_grad(), rng_set_aside(loop.experiment.seed), loop.stepper.autocast():
                moved = batch.to(loop.ranks.device)
                return loop.task.artifacts(moved, limit=self.limit)
        except Exception as error:
            loop.say(f"samples could not be made: {type(error).__name__}: {error}")
            return []

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there were."""
        return {"validations": self._validations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self._validations = int(state.get("validations", 0))
