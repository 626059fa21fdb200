"""Many trackers as one, none of which can stop a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.contracts import Artifact, RunInfo, Tracker


@dataclass
class _Sink:
    """A tracker and how it has been doing."""

    tracker: Tracker
    failures: int = 0
    """In a row."""
    unsaid: int = 0
    """Since the last warning."""
    warned_at: float | None = None
    disabled: bool = False

    @property
    def name(self) -> str:
        return type(self.tracker).__name__


class Fanout:
    """Passes everything on to each tracker; one that fails is warned about and at last disabled.

    Args:
        trackers: in the order in which they are called.
        say: gets a line for people, at most one a minute for each tracker.
        patience: failed calls in a row after which a tracker is not called any more.
        quiet: seconds between two warnings about one tracker.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        *,
        say: Callable[[str], None],
        patience: int = 20,
        quiet: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sinks = [_Sink(tracker) for tracker in trackers]
        self._say = say
        self._patience = patience
        self._quiet = quiet
        self._clock = clock

    def start(self, run: RunInfo) -> None:
        """Open every sink; one that cannot be opened is disabled at once."""
        for sink in self._sinks:
            try:
                sink.tracker.start(run)
            except Exception as error:
                sink.disabled = True
                self._say(f"{sink.name} could not start and is off for this run: {_text(error)}")

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Record scalars in every sink."""
        for sink in self._sinks:
            self._guard(sink, lambda t: t.metrics(values, step=step, epoch=epoch))

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        """Record texts, audio and images in every sink."""
        for sink in self._sinks:
            self._guard(sink, lambda t: t.artifacts(artifacts, step=step))

    def finish(self, status: str) -> None:
        """Close every sink, also a disabled one: it may hold a file or a lock."""
        for sink in self._sinks:
            try:
                sink.tracker.finish(status)
            except Exception as error:
                self._say(f"{sink.name} did not close properly: {_text(error)}")
            if sink.unsaid:
                self._say(f"{sink.name} failed {sink.unsaid} more times since the last warning")

    def _guard(self, sink: _Sink, call: Callable[[Tracker], None]) -> None:
        if sink.disabled:
            return
        try:
            call(sink.tracker)
        except Exception as error:
            self._failed(sink, error)
        else:
            sink.failures = 0

    def _failed(self, sink: _Sink, error: Exception) -> None:
        sink.failures += 1
        if sink.failures >= self._patience:
            sink.disabled = True
            sink.unsaid = 0
            self._say(
                f"{sink.name} failed {sink.failures} times in a row and is off for the rest of "
                f"this run: {_text(error)}"
            )
            return
        now = self._clock()
        if sink.warned_at is not None and now - sink.warned_at < self._quiet:
            sink.unsaid += 1
            return
        more = f" ({sink.unsaid} more since the last warning)" if sink.unsaid else ""
        sink.warned_at, sink.unsaid = now, 0
        self._say(f"{sink.name} failed, training goes on: {_text(error)}{more}")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
