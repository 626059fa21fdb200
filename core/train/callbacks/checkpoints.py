"""Checkpoints by step, at the end, and when a signal asks to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from core.checkpoint.store import CheckpointStore
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
    ) -> None:
        self.every = every
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.keep_every = keep_every
        self.monitor = monitor
        self.mode = mode
        self.saved_at: float | None = None
        """Monotonic time of the newest checkpoint of this process."""

    def store(self, loop: Loop) -> CheckpointStore:
        """Return the run's checkpoints under this policy."""
        return CheckpointStore(
            loop.run.checkpoints,
            keep_last=self.keep_last,
            keep_best=self.keep_best,
            keep_every=self.keep_every,
            monitor=self.monitor,
            mode=self.mode,
        )

    def on_step_end(self, loop: Loop) -> None:
        """Save when due, at the last step, and before a requested stop."""
        if loop.progress.step % self.every == 0 or loop.done or loop.stopping:
            self.save(loop)

    def save(self, loop: Loop) -> None:
        """Write a checkpoint of the present step; collective over ranks."""
        state = loop.state_dict()
        if loop.ranks.is_main:
            path = self.store(loop).save(
                step=loop.progress.step,
                epoch=loop.progress.epoch,
                metrics=loop.metrics,
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
        self.saved_at = time.monotonic()
