"""The training loop: steps, validation, logging and resume, for any task.

Everything that is not needed to follow an optimiser step from batch to weights is a callback.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

from core.contracts import (
    Batch,
    BatchStream,
    Exhaustible,
    Extent,
    FixedRows,
    PlannedScheduler,
    Tracker,
)
from core.dist.ranks import Ranks
from core.errors import ConfigError, TrainingError
from core.experiment import Experiment
from core.rundir import RunDir
from core.train import memory, nonfinite
from core.train.callback import Callback
from core.train.ema import ExponentialMovingAverage
from core.train.progress import Progress
from core.train.rates import plain_group
from core.train.rng import load_rng_state, rng_state
from core.train.signals import StopRequest
from core.train.step import Stepper, StepReport
from core.train.validation import evaluate_split
from core.train.window import Window

COUNTED = ("skipped_steps", "steps_without_target")
"""Of these a log line tells the number since the last one, not an average."""


class Loop:
    """Trains an experiment on this rank.

    Args:
        experiment: built, with task and data set up and the task on the device.
        run: the run directory.
        ranks: the processes of the run.
        tracker: where metrics go; does nothing on ranks that do not write.
        stop: whether a signal asked for the end.
        say: prints a line for people, on the main rank only.
        environment: revision and packages, written into checkpoints.
        settings: value of each setting by its path, for advice.
    """

    def __init__(
        self,
        *,
        experiment: Experiment,
        run: RunDir,
        ranks: Ranks,
        tracker: Tracker,
        stop: StopRequest,
        say: Callable[[str], None],
        environment: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.experiment = experiment
        self.trainer = experiment.trainer
        self.task = experiment.task
        self.run = run
        self.ranks = ranks
        self.tracker = tracker
        self.stop = stop
        self.say = say
        self.environment = environment
        self.advice = memory.step_advice(settings or {}, run.path)
        self.stopping = False
        """A signal asked some rank to stop, or the data are used up for now; the step that was just
        taken is the last."""
        self.progress = Progress()
        self.window = Window()
        self.metrics: dict[str, float] = {}
        """The newest validation metrics, and test metrics at the end."""
        self.uncounted: frozenset[str] = frozenset()
        """Metrics that the newest evaluation of their split counted nothing for."""
        self.logged: dict[str, float] = {}
        """Training metrics of the newest log line alone."""
        self.batches: tuple[Batch, ...] = ()
        """Micro-batches of the step that was just taken, on this rank."""
        self.validated_at = 0
        """Step whose weights the validation metrics in ``metrics`` are of."""
        self.aside = 0.0
        """Seconds spent on validation and checkpoints so far: not training speed."""
        self.data_wait = 0.0
        """Seconds the last step waited for its batches."""
        self.stream: BatchStream = experiment.data.train_stream()
        self.optimizer = experiment.optimizer(self.task)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.plain_group = plain_group(self.optimizer)
        self.scheduler = experiment.scheduler
        self.total_steps = self._total_steps()
        if isinstance(self.scheduler, PlannedScheduler):
            extent = Extent(total_steps=self.total_steps, rows_per_step=self._rows_per_step())
            self.scheduler.plan(extent)
        self.stepper = Stepper(
            task=self.task, optimizer=self.optimizer, trainer=self.trainer, ranks=ranks
        )
        decay = self.trainer.ema_decay
        self.ema = ExponentialMovingAverage(self.task, decay=decay) if decay else None
        self.callbacks = sorted(experiment.callbacks, key=lambda callback: callback.priority)
        if self.trainer.compile:
            self._compile()

    # ------------------------------------------------------------------------------ training

    def train(self) -> str:
        """Train until the budget or the data are used up or a signal arrives.

        Returns:
            ``finished`` where the budget is used, else ``stopped``.

        Raises:
            TrainingError: if losses stay non-finite or memory does not suffice.
        """
        self._each("on_start")
        try:
            status = self._train()
        except BaseException as error:
            for callback in self.callbacks:
                callback.on_exception(self, error)
            raise
        finally:
            self._each("on_end")
        return status

    def _train(self) -> str:
        while not self.done:
            taken = 0
            for batches in self._steps():
                taken += 1
                what = f"step {self.progress.step + 1}"
                with memory.explained(what, advice=self.advice, batches=batches):
                    report = self._step(batches)
                self._after_step(report)
                if report.stop or (self.stopping and not self.done):
                    return "stopped"
                if self.done:
                    break
            if taken == 0 and self.exhausted is not None:
                return "stopped"
            if taken == 0:
                raise TrainingError("the training data gave no batch; see the filters in log.txt")
            self.progress.epoch = self.stream.epoch
        return "finished"

    @property
    def done(self) -> bool:
        """Whether the budget of steps or epochs is used, or a kept schedule is at its end."""
        at_end = self.total_steps is not None and self.progress.step >= self.total_steps
        if self.trainer.max_epochs is not None:
            kept = isinstance(self.scheduler, PlannedScheduler) and self.scheduler.binding
            return self.progress.epoch >= self.trainer.max_epochs or (kept and at_end)
        return at_end

    @property
    def exhausted(self) -> str | None:
        """What the data lack to go on, None while they do not lack anything."""
        return self.stream.exhausted if isinstance(self.stream, Exhaustible) else None

    def _steps(self) -> Iterator[tuple[Batch, ...]]:
        """Group the rest of the epoch into steps; a step never spans two epochs."""
        group: list[Batch] = []
        waited = 0.0
        before = time.monotonic()
        # Not read ahead: the stream's position must be that of the step being taken.
        for batch in self.stream:
            waited += time.monotonic() - before
            group.append(batch)
            if len(group) == self.trainer.accumulation:
                self.data_wait, waited = waited, 0.0
                yield tuple(group)
                group.clear()
            before = time.monotonic()
        if group:
            self.data_wait = waited
            yield tuple(group)

    def _step(self, batches: tuple[Batch, ...]) -> StepReport:
        step = self.progress.step + 1
        factor = self.scheduler.factor(step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.batches = moved = tuple(batch.to(self.ranks.device) for batch in batches)
        self.task.train()
        report = self.stepper(moved, stop=self.stop.requested)
        self.progress.step = step
        self.progress.epoch = self.stream.epoch
        self.progress.utterances += sum(len(batch) for batch in moved)
        self.progress.seconds += sum(batch.seconds for batch in moved)
        if report.finite or report.overflow:
            self.progress.nonfinite_in_a_row = 0
        else:
            self._answer_nonfinite(moved, report)
        self.task.after_step(finite=report.finite)
        if report.finite and self.ema:
            self.ema.update()
        return report

    def _after_step(self, report: StepReport) -> None:
        self._record(report)
        exhausted = self.exhausted is not None
        self.stopping = report.stop or exhausted
        if self.progress.step % self.trainer.log_every == 0 or self.done:
            self._log()
        due = self.progress.step % self.trainer.validate_every == 0
        if (due or self.done or exhausted) and self.experiment.data.eval_splits:
            self.validate()
        self._each("on_step_end")

    def _answer_nonfinite(self, batches: tuple[Batch, ...], report: StepReport) -> None:
        """Say where it came from; stop when it keeps happening."""
        self.progress.nonfinite_in_a_row += 1
        with self.stepper.autocast():
            place = nonfinite.locate(self.task, [batch for batch in batches if len(batch)])
        row = self.progress.nonfinite_in_a_row
        _, found = min(self.ranks.gather(place))
        text = (
            f"step {self.progress.step}: non-finite (objective {report.objective}, gradient norm "
            f"{report.grad_norm}); step skipped, {row} in a row. First seen in: {found}"
        )
        self.say(text)
        if row > self.trainer.skip_nonfinite:
            raise TrainingError(
                f"{text}\n{row} non-finite steps in a row; trainer.skip_nonfinite allows "
                f"{self.trainer.skip_nonfinite}. Lower the learning rate, lengthen the warm-up, or "
                "look at the utterances named above"
            )

    # ------------------------------------------------------------------------------- metrics

    def _record(self, report: StepReport) -> None:
        if not report.finite:
            self.window.add("skipped_steps", 1.0)
            return
        if any(report.sums[name][1] > 0 for name in self.task.loss_names):
            self.window.add("loss", report.objective)
            self.window.add("grad_norm", report.grad_norm)
        else:  # A loss of 0 would look like success.
            self.window.add("steps_without_target", 1.0)
        for name, (total, count) in report.sums.items():
            self.window.add(name, total, count)

    def _log(self) -> None:
        numbers = {name: self.window.sums[name][0] for name in COUNTED if name in self.window.sums}
        averages = self.window.averages() | numbers
        self.window.reset()
        values = {f"train/{name}": value for name, value in averages.items()}
        for name in ("train/loss", "train/grad_norm", *(f"train/{name}" for name in COUNTED)):
            self.metrics.pop(name, None)  # What this window does not have must not look recent.
        values["train/lr"] = self.optimizer.param_groups[self.plain_group]["lr"]
        if self.stepper.scaler.is_enabled():
            values["train/loss_scale"] = self.stepper.scaler.get_scale()
        self.logged = values
        self.metrics |= values
        self.record(values)

    def record(self, values: Mapping[str, float]) -> None:
        """Send scalars to the trackers at the present step."""
        self.tracker.metrics(values, step=self.progress.step, epoch=self.progress.epoch)

    def validate(self) -> dict[str, float]:
        """Evaluate every validation split with the averaged weights, if any are kept."""
        began = time.monotonic()
        metrics: dict[str, float] = {}
        with ExitStack() as stack:
            stack.enter_context(self.ema.applied() if self.ema else nullcontext())
            for split in self.experiment.data.eval_splits:
                metrics |= self.evaluate(split)
            self.metrics.update(metrics)
            self.record(metrics)
            for callback in self.callbacks:
                callback.on_validation_end(self, metrics)
        self.validated_at = self.progress.step
        self.aside += time.monotonic() - began
        return metrics

    def evaluate(self, split: str) -> dict[str, float]:
        """Return ``split/name`` averages over a split, the same on every rank."""
        with memory.explained(f"evaluation of '{split}'", advice=self.advice):
            found = evaluate_split(
                self.task,
                self.experiment.data.eval_batches(split),
                split=split,
                ranks=self.ranks,
                autocast=self.stepper.autocast,
                seed=self.experiment.seed,
                say=self.say,
            )
        self.uncounted = (self.uncounted - found.values.keys()) | found.uncounted
        return found.values

    # --------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Return everything but weights and optimiser that an exact resume needs.

        Collective: every rank must call it, because each has its own random state.
        """
        return {
            "progress": vars(self.progress).copy(),
            "total_steps": self.total_steps,
            "schedule": self._plan(),
            "stream": self.stream.state_dict(),
            "window": self.window.state_dict(),
            "metrics": dict(self.metrics),
            "validated_at": self.validated_at,
            "scaler": self.stepper.scaler.state_dict(),
            "ema_updates": self.ema.updates if self.ema else 0,
            "rng": self.ranks.gather(rng_state()),
            "callbacks": {name: each.state_dict() for name, each in self._named_callbacks()},
        }

    def load_state_dict(self, state: Mapping[str, Any], *, allow_data_change: bool = False) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ConfigError: the schedule cannot be kept under this configuration.
            DataError: the training data are not those of the state, and that was not allowed.
        """
        self.progress = Progress(**state["progress"])
        if isinstance(self.scheduler, PlannedScheduler):
            for line in self.scheduler.resume(state.get("schedule", {}), step=self.progress.step):
                self.say(line)
            self.total_steps = self.scheduler.total_steps
        self.stream.load_state_dict(state["stream"], allow_data_change=allow_data_change)
        self.window.load_state_dict(state["window"])
        self.metrics = dict(state["metrics"])
        self.validated_at = int(state["validated_at"])
        if state["scaler"]:  # Empty unless the checkpoint was trained in fp16.
            self.stepper.scaler.load_state_dict(state["scaler"])
        if len(state["rng"]) == self.ranks.world_size:
            load_rng_state(state["rng"][self.ranks.rank])
        else:
            self.say(
                f"the checkpoint was made by {len(state['rng'])} ranks and this run has "
                f"{self.ranks.world_size}: random states start anew, so the resume is not bit-exact"
            )
        for name, callback in self._named_callbacks():
            callback.load_state_dict(state["callbacks"].get(name, {}))

    # ------------------------------------------------------------------------------- details

    def _named_callbacks(self) -> Iterator[tuple[str, Callback]]:
        """Name callbacks by class and, should a class occur twice, by its place among them."""
        seen: Counter[str] = Counter()
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] += 1
            yield (name if seen[name] == 1 else f"{name}-{seen[name]}"), callback

    def _each(self, hook: str) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self)

    def _plan(self) -> dict[str, Any]:
        scheduler = self.scheduler
        return scheduler.state_dict() if isinstance(scheduler, PlannedScheduler) else {}

    def _rows_per_step(self) -> int | None:
        if not isinstance(self.stream, FixedRows):
            return None
        return self.stream.rows_per_batch * self.trainer.accumulation * self.ranks.world_size

    def _total_steps(self) -> int | None:
        """Return the length of the schedule; by epochs it is that of the first, many times."""
        if self.trainer.max_steps is not None:
            return self.trainer.max_steps
        if self.stream.steps_per_epoch is None:
            raise ConfigError(
                "trainer.max_epochs needs data of known length; this source streams: set "
                "trainer.max_steps"
            )
        per_epoch = -(-self.stream.steps_per_epoch // self.trainer.accumulation)
        return (self.trainer.max_epochs or 0) * per_epoch

    def _compile(self) -> None:
        targets = self.task.compile_targets()
        if not targets:
            raise ConfigError(
                f"trainer.compile is on, but {type(self.task).__name__} names nothing to compile"
            )
        for module in targets:
            module.compile(dynamic=True)
