"""How many targets a run learns from in a second, and how much memory it has taken."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING

import torch

from core.errors import ConfigError
from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop

_GIB = 2**30


@register("callback", "throughput")
class Throughput(Callback):
    """Logs ``speed/tokens_per_second`` and peaks of memory every ``trainer.log_every`` steps.

    Seconds of audio say little of a model that hears chunks of fixed length and learns from text;
    the targets of its loss do. Validation and checkpoints do not count as time. Peaks are those of
    the main rank since the process began: ``memory/host_gib``, and on CUDA ``memory/device_gib``.

    Args:
        loss: whose targets are the tokens.
    """

    priority = 59

    def __init__(self, *, loss: str) -> None:
        self.loss = loss
        self._since = self._tokens = 0.0

    def on_start(self, loop: Loop) -> None:
        """Begin to count.

        Raises:
            ConfigError: the task has no such loss.
        """
        if self.loss not in loop.task.loss_names:
            raise ConfigError(
                f"callback throughput: the task has no loss '{self.loss}'; it has "
                f"{', '.join(loop.task.loss_names)}"
            )
        self._since = now() - loop.aside

    def on_step_end(self, loop: Loop) -> None:
        """Count the step's targets; log where training metrics are logged."""
        self._tokens += loop.stepper.counts[self.loss]
        if loop.progress.step % loop.trainer.log_every and not loop.done:
            return
        trained_until = now() - loop.aside
        elapsed = max(trained_until - self._since, 1e-9)
        loop.record({"speed/tokens_per_second": self._tokens / elapsed, **memory_peaks()})
        self._since, self._tokens = trained_until, 0.0


def now() -> float:
    """Return seconds of a clock that only goes forward."""
    return time.monotonic()


def memory_peaks() -> dict[str, float]:
    """Return the most memory that this process has held, in GiB."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peaks = {"memory/host_gib": taken / _GIB}
    if torch.cuda.is_available():
        peaks["memory/device_gib"] = torch.cuda.max_memory_allocated() / _GIB
    return peaks
