"""Limits on logged metrics: a line when one is crossed, and a curve of when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, ConfigErrors, suggest
from core.registry import register
from core.train.callback import Callback

if TYPE_CHECKING:
    from core.train.loop import Loop

START = "start"
_LOOP_METRICS = ("loss", "grad_norm", "lr", "loss_scale", "skipped_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a metric must not cross.

    Args:
        name: of the alarm, logged as ``alarm/NAME``.
        metric: as it is logged, such as ``train/emotion_norm``.
        above: largest value that is fine; None for no such limit.
        below: smallest value that is fine; None for no such limit.
        relative_to: None to compare the value itself; ``start`` to compare its ratio to the first
            one logged; else a metric to compare its ratio to.
        patience: times in a row that the limit must be crossed.
        hint: what it means and what to do.
    """

    name: str
    metric: str
    above: float | None = None
    below: float | None = None
    relative_to: str | None = None
    patience: int = 1
    hint: str = ""

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ConfigError(f"alarm {self.name}: set exactly one of above and below")
        if self.patience < 1:
            raise ConfigError(
                f"alarm {self.name}: patience must be at least 1, but is {self.patience}"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that must be logged for the limit to mean anything."""
        other = self.relative_to
        return (self.metric,) if other in (None, START) else (self.metric, str(other))

    def crossed(self, value: float) -> bool:
        """Return whether a value, or a ratio, is not fine; NaN is not."""
        if self.above is not None:
            return not value <= self.above
        return not value >= (self.below or 0.0)

    def describe(self, value: float, measured: float) -> str:
        """Return what was found and what is fine."""
        bound = f"at most {self.above:g}" if self.above is not None else f"at least {self.below:g}"
        if self.relative_to is None:
            return f"{self.metric} is {value:.4g}, expected {bound}"
        other = "its value at the start" if self.relative_to == START else self.relative_to
        return f"{self.metric} is {value:.4g}, {measured:.3g} times {other}, expected {bound}"


@register("callback", "alarms")
class Alarms(Callback):
    """Compares logged metrics with limits, each time that they are logged.

    A line is said when a limit is crossed and when all is well again, not in between;
    ``alarm/NAME`` is logged as 1 while it lasts, else 0. Training goes on: alarms are for people.
    Validation is judged from :meth:`Task.ready_from` on, as the best weights are chosen, and not by
    metrics that nothing was counted for.

    Args:
        limits: to watch.
    """

    priority = 55  # Before the progress line.

    def __init__(self, *, limits: Sequence[Limit] = ()) -> None:
        self.limits = tuple(limits)
        self._starts: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def on_start(self, loop: Loop) -> None:
        """Refuse limits on training metrics that the task does not give."""
        names = [limit.name for limit in self.limits]
        problems = [
            f"callbacks Alarms: two limits are named '{name}'"
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        own = (*loop.task.loss_names, *loop.task.metric_names, *_LOOP_METRICS)
        known = [f"train/{name}" for name in own]
        problems += [
            f"callbacks Alarms, limit {limit.name}: '{metric}' is not logged; "
            f"{suggest(metric, known, noun='metrics')}"
            for limit in self.limits
            for metric in limit.metrics
            if metric.startswith("train/") and metric not in known
        ]
        if problems:
            raise ConfigErrors(problems)

    def on_validation_end(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        """Refuse limits on metrics of a validation split that does not give them."""
        splits = {name.partition("/")[0] for name in metrics}
        for limit in self.limits:
            for metric in limit.metrics:
                if metric.partition("/")[0] in splits and metric not in metrics:
                    raise ConfigError(
                        f"callbacks Alarms, limit {limit.name}: validation does not give "
                        f"'{metric}'; {suggest(metric, metrics, noun='metrics')}"
                    )
        if loop.progress.step >= loop.task.ready_from():
            self._judge(loop, {n: v for n, v in metrics.items() if n not in loop.uncounted})

    def on_step_end(self, loop: Loop) -> None:
        """Compare what was just logged."""
        if loop.progress.step % loop.trainer.log_every == 0 or loop.done:
            logged = loop.logged
            self._judge(loop, {n: v for n, v in logged.items() if n.startswith("train/")})

    def _judge(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        values: dict[str, float] = {}
        for limit in self.limits:
            if all(metric in metrics for metric in limit.metrics):
                values[f"alarm/{limit.name}"] = float(self._look(loop, limit, metrics))
        if values:
            loop.record(values)

    def _look(self, loop: Loop, limit: Limit, metrics: Mapping[str, float]) -> bool:
        """Return whether the alarm is on, and say so where that changes."""
        value = measured = metrics[limit.metric]
        if limit.relative_to is not None:
            start = self._starts.setdefault(limit.name, value)
            base = start if limit.relative_to == START else metrics[limit.relative_to]
            measured = value / base if base else float("inf") if value else 1.0
        rows = self._rows.get(limit.name, 0) + 1 if limit.crossed(measured) else 0
        was_on = self._rows.get(limit.name, 0) >= limit.patience
        self._rows[limit.name] = rows
        is_on = rows >= limit.patience
        if is_on and not was_on:
            end = f". {limit.hint}" if limit.hint else ""
            loop.say(
                f"ALARM {limit.name} at step {loop.progress.step}: "
                f"{limit.describe(value, measured)}{end}"
            )
        elif was_on and not is_on:
            loop.say(f"alarm {limit.name} is over at step {loop.progress.step}")
        return is_on

    def state_dict(self) -> dict[str, Any]:
        """Return first values and how long limits have been crossed."""
        return {"starts": dict(self._starts), "rows": dict(self._rows)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on watching."""
        self._starts = dict(state.get("starts", {}))
        self._rows = dict(state.get("rows", {}))
