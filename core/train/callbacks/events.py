"""What batches report of how they were made: named once, counted, and shown beside the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.contracts import Eventful
from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "events")
class Events(Callback):
    """Counts the events of training batches over all ranks and restarts.

    An event such as ``noise retries`` gets a line when it happens for the first time. Its number so
    far is logged as ``data/noise_retries`` every ``trainer.log_every`` steps, if it has changed.
    """

    priority = 11

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()

    def on_step_end(self, loop: Loop) -> None:
        """Count what this step's batches report, over all ranks."""
        mine: Counter[str] = Counter()
        for batch in loop.batches:
            if isinstance(batch, Eventful):
                mine.update(batch.events)
        # Ranks see different events, so names are exchanged; most steps have none to exchange.
        if loop.ranks.sum_named({"events": float(mine.total())})["events"]:
            self._count(loop, mine)
        if loop.progress.step % loop.trainer.log_every == 0 or loop.done:
            self._log(loop)

    def _count(self, loop: Loop, mine: Counter[str]) -> None:
        known = set(self.counts)
        for events in loop.ranks.gather(dict(mine)):
            self.counts.update(events)
        for name in sorted(set(self.counts) - known):
            loop.say(
                f"data: {name}, for the first time at step {loop.progress.step}; counted as "
                f"{_metric(name)}"
            )

    def _log(self, loop: Loop) -> None:
        changed = {name: n for name, n in self.counts.items() if n != self._logged[name]}
        if changed:
            loop.record({_metric(name): float(count) for name, count in sorted(changed.items())})
            self._logged = Counter(self.counts)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, and those of them that the trackers have."""
        return {"counts": dict(self.counts), "logged": dict(self._logged)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.counts = Counter(state.get("counts", {}))
        self._logged = Counter(state.get("logged", {}))


def _metric(name: str) -> str:
    return f"data/{name.replace(' ', '_')}"
