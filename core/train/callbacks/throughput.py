"""How many targets a run learns from in a second, and how much memory it has taken."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING

from core.errors import ConfigError
from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "throughput")
class Throughput(Callback):
    """Logs ``speed/tokens_per_second`` and the peak of memory every ``trainer.log_every`` steps.

    Seconds of audio say little of a model that hears chunks of fixed length and learns from text;
    the targets of its loss do. Validation and checkpoints do not count as time. The peak,
    ``speed/host_memory_gib``, is that of the main process since it began; that of the device stands
    beside the loss.

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
        loop.record(
            {
                "speed/tokens_per_second": self._tokens / elapsed,
                "speed/host_memory_gib": peak_memory(),
            }
        )
        self._since, self._tokens = trained_until, 0.0


def now() -> float:
    """Return seconds of a clock that only goes forward."""
    return time.monotonic()


def peak_memory() -> float:
    """Return the most memory that this process has held on the host, in GiB."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
