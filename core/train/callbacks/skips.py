"""Utterances that could not be used: logged with their reasons, counted, and limited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.contracts import Skipped
from core.errors import TrainingError
from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop


@register("callback", "skips")
class Skips(Callback):
    """Reports every utterance that was left out of a batch; stops the run when they are many.

    Args:
        max_share: largest share of utterances that may be unusable. It is judged once
            ``min_seen`` utterances have been drawn, and again after every step.
        min_seen: utterances over all ranks before the share means anything.
    """

    priority = 10

    def __init__(self, *, max_share: float = 0.01, min_seen: int = 200) -> None:
        self.max_share = max_share
        self.min_seen = min_seen
        self.seen = 0
        self.reasons: Counter[str] = Counter()

    def on_step_end(self, loop: Loop) -> None:
        """Count what this step left out, over all ranks."""
        skipped = [item for batch in loop.batches for item in batch.skipped]
        used = sum(len(batch) for batch in loop.batches)
        counts = loop.ranks.sum_named({"used": float(used), "skipped": float(len(skipped))})
        self.seen += int(counts["used"] + counts["skipped"])
        if counts["skipped"]:
            self._report(loop, skipped)
        self._judge()

    def _report(self, loop: Loop, skipped: list[Skipped]) -> None:
        for items in loop.ranks.gather([(s.id, s.reason, s.detail) for s in skipped]):
            for utterance, reason, detail in items:
                self.reasons[reason] += 1
                loop.say(f"skipped {utterance}: {reason}{f' ({detail})' if detail else ''}")
        loop.record({"train/skipped_utterances": float(self.total)})

    @property
    def total(self) -> int:
        """Utterances left out so far."""
        return sum(self.reasons.values())

    def _judge(self) -> None:
        if self.seen < self.min_seen or self.total <= self.max_share * self.seen:
            return
        table = ", ".join(f"{reason}: {count}" for reason, count in self.reasons.most_common())
        raise TrainingError(
            f"{self.total} of {self.seen} utterances could not be used "
            f"({self.total / self.seen:.1%}; callbacks Skips.max_share allows "
            f"{self.max_share:.1%}): {table}. Each is named in log.txt"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"seen": self.seen, "reasons": dict(self.reasons)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.seen = int(state.get("seen", 0))
        self.reasons = Counter(state.get("reasons", {}))
