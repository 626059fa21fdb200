"""A polite end: the first signal asks the loop to save and stop, the second stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Whether a signal has asked this process to stop, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + signal number, as a shell reports it."""
        return 128 + int(self.signal) if self.signal else 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; raise KeyboardInterrupt on the second."""
        if self.requested:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listen for SIGTERM, SIGINT and SIGUSR1; give the former handlers back at the end.

    Enter after the process group is initialised: its C++ threads install handlers of their own.
    """
    request = StopRequest()
    former = {number: signal.signal(number, request.handle) for number in HANDLED}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
