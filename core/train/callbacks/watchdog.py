"""A hang made visible: stacks of all threads, then an end, instead of silence for ever."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop

EXIT_CODE = 70


@register("callback", "watchdog")
class Watchdog(Callback):
    """Ends the process when no step or validation finishes within ``timeout`` seconds.

    The stacks of all threads go to standard error first. The last checkpoint stays as it is, so
    the same command resumes from it.

    Args:
        timeout: seconds; it must exceed the longest validation and checkpoint.
    """

    priority = 5

    def __init__(self, *, timeout: float = 3600.0) -> None:
        self.timeout = timeout
        self._last = time.monotonic()
        self._ended = threading.Event()

    def on_start(self, loop: Loop) -> None:
        """Begin to watch."""
        self._last = time.monotonic()
        threading.Thread(target=self._watch, name="sori-watchdog", daemon=True).start()

    def on_step_end(self, loop: Loop) -> None:
        """Note a sign of life."""
        self._last = time.monotonic()

    def on_validation_end(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        """Note a sign of life."""
        self._last = time.monotonic()

    def on_end(self, loop: Loop) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(self.timeout / 4, 10.0)):
            silent = time.monotonic() - self._last
            if silent > self.timeout:
                print(
                    f"no training step finished for {silent:.0f} s (callbacks Watchdog.timeout is "
                    f"{self.timeout:.0f} s); stacks of all threads follow, then this process ends "
                    f"with status {EXIT_CODE}. Run the same command again to resume.",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(file=sys.stderr)
                os._exit(EXIT_CODE)
