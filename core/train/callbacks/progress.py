"""What a person sees while a run trains: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from core.registry import register
from core.train.callback import Callback
from core.train.console import CONSOLE

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "progress")
class ProgressBar(Callback):
    """Shows loss, learning rate, speed, padding, waiting for data, and the time left.

    On a terminal it is a live bar; elsewhere one line every ``trainer.log_every`` steps. Speeds
    come from a monotonic clock, over the steps since the last line; validation and checkpoints do
    not count.

    Args:
        live: None to decide by whether standard output is a terminal.
    """

    priority = 60

    def __init__(self, *, live: bool | None = None) -> None:
        self.live = live
        self._bar: Progress | None = None
        self._line: TaskID = TaskID(0)
        self._reset(aside=0.0)

    def _reset(self, *, aside: float) -> None:
        self._since = time.monotonic()
        self._aside = aside
        self._steps = 0
        self._seconds = 0.0
        self._padded = 0.0
        self._waited = 0.0

    def on_start(self, loop: Loop) -> None:
        """Open the bar."""
        self._reset(aside=loop.aside)
        live = sys.stdout.isatty() if self.live is None else self.live
        if not (live and loop.ranks.is_main):
            return
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=CONSOLE,
        )
        self._line = self._bar.add_task(
            "training", total=loop.total_steps, completed=loop.progress.step
        )
        self._bar.start()

    def on_step_end(self, loop: Loop) -> None:
        """Move the bar, or print a line when metrics were logged."""
        self._steps += 1
        self._seconds += sum(batch.seconds for batch in loop.batches)
        self._padded += sum(batch.padded_seconds for batch in loop.batches)
        self._waited += loop.data_wait
        if self._bar is not None:
            self._bar.update(self._line, completed=loop.progress.step)
        if loop.progress.step % loop.trainer.log_every == 0 or loop.done:
            speeds = self._speeds(loop)
            loop.record(speeds)
            text = describe(loop, speeds)
            if self._bar is not None:
                self._bar.update(self._line, description=text)
            loop.say(f"[step {loop.progress.step}/{loop.total_steps or '…'}] {text}")
            self._reset(aside=loop.aside)

    def on_validation_end(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        """Print the validation metrics."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        loop.say(f"[step {loop.progress.step}] validation: {shown}")

    def on_end(self, loop: Loop) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _speeds(self, loop: Loop) -> dict[str, float]:
        aside = loop.aside - self._aside
        elapsed = max(time.monotonic() - self._since - aside, 1e-9)
        values = {
            "speed/audio_seconds_per_second": self._seconds * loop.ranks.world_size / elapsed,
            "speed/step_seconds": elapsed / self._steps,
            "speed/data_wait": self._waited / elapsed,
            "speed/padding": 1 - self._seconds / self._padded if self._padded else 0.0,
        }
        if loop.ranks.device.type == "cuda":
            values["speed/memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        if loop.total_steps is not None:
            left = loop.total_steps - loop.progress.step
            values["speed/eta_seconds"] = left * values["speed/step_seconds"]
        return values


def describe(loop: Loop, speeds: Mapping[str, float]) -> str:
    """Return one line on the state of training."""
    metrics = loop.metrics
    parts = [f"epoch {loop.progress.epoch}"]
    if "train/loss" in metrics:
        parts.append(f"loss {metrics['train/loss']:.4f}")
    elif "train/steps_without_target" in metrics:
        parts.append("no target counted")
    if "train/grad_norm" in metrics:
        parts.append(f"grad {metrics['train/grad_norm']:.2f}")
    parts.append(f"lr {metrics.get('train/lr', 0.0):.2e}")
    parts.append(f"{speeds['speed/audio_seconds_per_second']:.0f}× real time")
    parts.append(f"{speeds['speed/step_seconds']:.2f} s/step")
    parts.append(f"padding {speeds['speed/padding']:.1%}")
    parts.append(f"data wait {speeds['speed/data_wait']:.1%}")
    if "speed/memory_gib" in speeds:
        parts.append(f"{speeds['speed/memory_gib']:.1f} GiB")
    if "speed/eta_seconds" in speeds:
        parts.append(f"left {_clock(speeds['speed/eta_seconds'])}")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
