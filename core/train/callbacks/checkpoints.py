"""Checkpoints by step, at the end, and when a signal asks to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from core.checkpoint.store import CheckpointStore
from core.errors import ConfigError, suggest
from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "checkpoints")
class Checkpoints(Callback):
    """Saves everything that an exact resume needs.

    Args:
        every: optimiser steps between checkpoints.
        keep_last: newest checkpoints to keep.
        keep_best: best checkpoints to keep, by ``monitor``.
        keep_every: also keep each checkpoint whose step is a multiple of this; None for none.
        monitor: validation metric that decides ``BEST`` and stands in the names.
        mode: whether a lower or a higher ``monitor`` is better.
        best_from: first step that may be the best; None to ask the task, whose weights may become
            what they are to be after a while: an early checkpoint may beat all others in
            ``monitor`` alone.
    """

    priority = 80  # After everything whose state it saves.

    def __init__(
        self,
        *,
        every: int = 1000,
        keep_last: int = 3,
        keep_best: int = 1,
        keep_every: int | None = None,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        best_from: int | None = None,
    ) -> None:
        self.every = every
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.keep_every = keep_every
        self.monitor = monitor
        self.mode = mode
        self.best_from = best_from

    def on_start(self, loop: Loop) -> None:
        """Refuse a retention policy that makes no sense before the first step is taken."""
        if self.every < 1:
            raise ConfigError(f"callbacks Checkpoints.every: expected at least 1, got {self.every}")
        self.store(loop)
        if self.keep_best and not loop.experiment.data.eval_splits:
            loop.say(
                f"no checkpoint will be BEST: there is no validation split to give '{self.monitor}'"
            )
            return
        total = loop.total_steps
        first = self._best_from(loop)
        if self.keep_best and total is not None and total < first:
            loop.say(
                f"no checkpoint will be BEST: training ends at step {total}, and the first that "
                f"may be is that of step {first}"
            )

    def on_validation_end(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        """Refuse to watch a metric that validation does not give."""
        if self.keep_best and self.monitor not in metrics:
            raise ConfigError(
                f"callbacks Checkpoints.monitor is '{self.monitor}', which validation does not "
                f"give; {suggest(self.monitor, metrics, noun='metrics')}"
            )

    def store(self, loop: Loop) -> CheckpointStore:
        """Return the run's checkpoints under this policy."""
        return CheckpointStore(
            loop.run.checkpoints,
            keep_last=self.keep_last,
            keep_best=self.keep_best,
            keep_every=self.keep_every,
            monitor=self.monitor,
            mode=self.mode,
            best_from=self._best_from(loop),
        )

    def _best_from(self, loop: Loop) -> int:
        return loop.task.ready_from() if self.best_from is None else self.best_from

    def on_step_end(self, loop: Loop) -> None:
        """Save when due, at the last step, and before a requested stop."""
        if loop.progress.step % self.every == 0 or loop.done or loop.stopping:
            self.save(loop)

    def save(self, loop: Loop) -> None:
        """Write a checkpoint of the present step; collective over ranks."""
        began = time.monotonic()
        state = loop.state_dict()
        if loop.ranks.is_main:
            path = self.store(loop).save(
                step=loop.progress.step,
                epoch=loop.progress.epoch,
                metrics=self._metrics(loop),
                model=loop.task.state_dict(),
                ema=loop.ema.shadow if loop.ema else None,
                optimizer=loop.optimizer.state_dict(),
                state=state,
                assets=loop.run.assets,
                config_dir=loop.run.config_dir,
                meta={"data": loop.experiment.data.fingerprint(), **loop.environment},
            )
            loop.say(f"saved {path.name}")
        loop.ranks.barrier()
        loop.aside += time.monotonic() - began

    def _metrics(self, loop: Loop) -> dict[str, float]:
        """Return the metrics of these very weights; an older validation says nothing of them."""
        if loop.validated_at == loop.progress.step:
            return dict(loop.metrics)
        return {k: v for k, v in loop.metrics.items() if k.startswith("train/")}
