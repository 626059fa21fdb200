"""From a composed configuration to a finished run: directory, build, resume, train, test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from core.checkpoint import format as checkpoint_format
from core.checkpoint.branch import branch
from core.checkpoint.match import load_strict
from core.checkpoint.store import CheckpointStore
from core.config import snapshot
from core.config.build import build
from core.config.compose import Composed
from core.config.flatten import flatten
from core.config.lint import lint
from core.contracts import RunContext, RunInfo, Tracker
from core.dist.ranks import Ranks, ranks
from core.environment import describe_environment
from core.errors import CheckpointError, ConfigError, ConfigErrors, SoriError
from core.experiment import Experiment
from core.rundir import RunDir
from core.track.fanout import Fanout
from core.track.jsonl import JsonlTracker
from core.track.samples import SampleWriter
from core.train import memory
from core.train.allocator import keep_freed_memory
from core.train.announce import announcements
from core.train.directory import run_directory
from core.train.initial import initialise
from core.train.loop import Loop
from core.train.parameters import parameter_counts
from core.train.results import RESULTS, read_results, result_lines, write_results
from core.train.rng import seed_everything
from core.train.signals import StopRequest, stop_on_signals


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, as opposed to what.

    Args:
        root: folder of run directories.
        directory: this very run directory; None to name it after the experiment and its
            configuration, so that the same command finds the same run.
        resume: ``auto`` goes on with the run if it exists, ``never`` starts a fresh directory;
            anything else is the run directory to go on with, whatever its configuration was.
        init_from: run or checkpoint whose weights start this run, or the URI of a file of another
            toolkit, such as ``nemo:model.nemo``; None for fresh weights.
        branch_from: run or checkpoint whose whole state this run goes on from, in a directory of
            its own; None to start anew.
        allow_data_change: go on although a manifest is not the one of the checkpoint.
    """

    root: Path = Path("runs")
    directory: Path | None = None
    resume: str = "auto"
    init_from: str | None = None
    branch_from: str | None = None
    allow_data_change: bool = False

    def __post_init__(self) -> None:
        if self.init_from is not None and self.branch_from is not None:
            raise ConfigError(
                "--init-from takes weights alone and --branch-from everything; give one of them"
            )

    @property
    def origin(self) -> str | None:
        """What the run starts from, for its name; None for fresh weights."""
        return f"branch:{self.branch_from}" if self.branch_from is not None else self.init_from


@dataclass
class Outcome:
    """How a run ended: its directory, ``finished`` or ``stopped``, test metrics, exit status."""

    directory: Path
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    exit_code: int = 0


def run(composed: Composed, options: RunOptions, write: Callable[[str], None]) -> Outcome:
    """Train and test what ``composed`` describes.

    Args:
        composed: the configuration and how it came about.
        options: where to write and what to start from.
        write: prints a line for people.

    Raises:
        SoriError: anything that a user can mend, with a message that says how.
    """
    problems = lint(composed.config)
    if problems:
        raise ConfigErrors(problems)
    trainer = composed.config.trainer
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    if trainer.deterministic:
        torch.use_deterministic_algorithms(True)
    with ExitStack() as stack:
        joined = stack.enter_context(
            ranks(device=trainer.device, timeout=trainer.collective_timeout)
        )
        stop = stack.enter_context(stop_on_signals())
        notes: list[str] = []
        run_dir = stack.enter_context(
            run_directory(
                composed.config,
                root=options.root,
                directory=options.directory,
                resume=options.resume,
                init_from=options.origin,
                ranks=joined,
                say=notes.append,
            )
        )
        say = stack.enter_context(announcements(run_dir, joined, write))
        for note in notes:
            say(note)
        steps = _Run(composed, options, joined, run_dir, stop, say)
        try:
            return steps.execute()
        except BaseException as error:
            # A refused resume leaves a run as it was, its status too.
            if steps.entered or not run_dir.restore_status():
                name = "" if isinstance(error, SoriError) else f"{type(error).__name__}: "
                run_dir.set_status("failed", reason=f"{name}{error}")
            raise


class _Run:
    """The steps of one run on one rank, in the order in which they happen."""

    def __init__(
        self,
        composed: Composed,
        options: RunOptions,
        joined: Ranks,
        run_dir: RunDir,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> None:
        self.composed = composed
        self.options = options
        self.ranks = joined
        self.run_dir = run_dir
        self.stop = stop
        self.say = say
        self.environment = describe_environment()
        self.memory_kept = joined.device.type == "cpu" and keep_freed_memory()
        self.entered = False
        """Everything was restored and accepted; from here on the run directory changes."""

    def execute(self) -> Outcome:
        """Build, restore, train, test."""
        checkpoint = self._find_checkpoint()
        if checkpoint is not None:
            self._check_origin(checkpoint)
        # Weights are drawn from the seed alone, so that every rank draws the same.
        seed = self.composed.config.seed
        seed_everything(seed)
        experiment = build(self.composed.config)
        context = RunContext(
            assets=self.run_dir.assets,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            seed=seed,
        )
        experiment.introduce()
        experiment.data.setup(context)
        with memory.explained("making the model", advice=memory.MODEL_TOO_LARGE):
            experiment.task.setup(context)
            experiment.task.to(self.ranks.device)
        if self.options.init_from is not None and checkpoint is None:
            for line in initialise(
                experiment.task,
                self.options.init_from,
                config=self.composed.config,
                assets=self.run_dir.assets,
            ):
                self.say(line)
        # From here on ranks draw different numbers: dropout, masks.
        seed_everything(seed, self.ranks.rank)
        tracker = self._tracker(experiment)
        loop = Loop(
            experiment=experiment,
            run=self.run_dir,
            ranks=self.ranks,
            tracker=tracker,
            stop=self.stop,
            say=self.say,
            environment=self.environment,
            settings=flatten(self.composed.config),
        )
        if checkpoint is not None:
            self._restore(loop, checkpoint)
        self.entered = True
        # Not before: a refused resume must leave the run as it was.
        if self.ranks.is_main:
            snapshot.save(self.composed.config, self.run_dir.config_dir, header=self._origin())
        self._header(loop, checkpoint)
        tracker.start(self._info(loop))
        status = "failed"
        try:
            if loop.done and self.ranks.broadcast((self.run_dir.path / RESULTS).exists()):
                status = "finished"
                return self._already_finished(loop)
            status = loop.train()
            metrics = self._test(loop) if status == "finished" else {}
        finally:
            tracker.finish(status)
        return self._close(loop, status, metrics)

    def _find_checkpoint(self) -> Path | None:
        found: Path | None = None
        if self.ranks.is_main:
            store = CheckpointStore(self.run_dir.checkpoints)
            store.clean(self.say)
            found = store.latest(self.say)
            if found is None and self.options.branch_from is not None:
                found = self._branch(Path(self.options.branch_from))
        chosen: Path | None = self.ranks.broadcast(found)
        return chosen

    def _branch(self, source: Path) -> Path:
        found = branch(source, checkpoints=self.run_dir.checkpoints, assets=self.run_dir.assets)
        self.say(f"branched from {source}: {found.name}")
        return found

    def _check_origin(self, checkpoint: Path) -> None:
        """Refuse to go on with a run that did not start from what is now named."""
        headers = {
            # A branch begins with a checkpoint that another run has saved.
            "branch_from": self._former_header(),
            "init_from": snapshot.read_header(checkpoint),
        }
        for option, header in headers.items():
            wanted = getattr(self.options, option)
            started_from = header.get(option)
            if wanted is not None and header and started_from != wanted:
                raise ConfigError(
                    f"--{option.replace('_', '-')} {wanted}: {self.run_dir.path} exists and was "
                    f"started from {started_from or 'fresh weights'}; add --resume never or "
                    "another --run-dir"
                )

    def _former_header(self) -> dict[str, Any]:
        """Return what was saved with the run's configuration, nothing for a new run."""
        if not (self.run_dir.config_dir / snapshot.JSON_NAME).is_file():
            return {}
        return snapshot.read_header(self.run_dir.config_dir)

    def _restore(self, loop: Loop, checkpoint: Path) -> None:
        load_strict(loop.task, checkpoint_format.read_model(checkpoint), source=str(checkpoint))
        self._restore_optimizer(loop, checkpoint)
        state = checkpoint_format.read_state(checkpoint)
        loop.load_state_dict(state, allow_data_change=self.options.allow_data_change)
        if loop.ema is not None:
            if (checkpoint / checkpoint_format.EMA).exists():
                averages = checkpoint_format.read_ema(checkpoint)
                loop.ema.load(averages, updates=state["ema_updates"])
            else:
                loop.ema.load(loop.task.state_dict(), updates=0)
                self.say(f"{checkpoint.name} holds no averaged weights; the average starts here")

    def _restore_optimizer(self, loop: Loop, checkpoint: Path) -> None:
        """Take back moments and counts, but no rates or decays: those are the configuration's."""
        fresh = [dict(group) for group in loop.optimizer.param_groups]
        try:
            loop.optimizer.load_state_dict(
                checkpoint_format.read_optimizer(checkpoint, self.ranks.device)
            )
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"the optimizer does not fit that of {checkpoint}: {error}; --init-from takes its "
                "weights alone"
            ) from error
        for group, wanted in zip(loop.optimizer.param_groups, fresh, strict=True):
            group.update({key: value for key, value in wanted.items() if key != "params"})

    def _tracker(self, experiment: Experiment) -> Fanout:
        if not self.ranks.is_main:
            return Fanout([], say=self.say)
        sinks: list[Tracker] = [JsonlTracker(), SampleWriter(), *experiment.trackers]
        return Fanout(sinks, say=self.say)

    def _info(self, loop: Loop) -> RunInfo:
        return RunInfo(
            directory=self.run_dir.path,
            name=loop.experiment.name,
            hparams=flatten(self.composed.config),
            environment=self.environment,
            resumed_step=loop.progress.step,
        )

    def _origin(self) -> dict[str, Any]:
        return {
            "target": self.composed.target,
            "knobs": dict(self.composed.knobs),
            "presets": list(self.composed.presets),
            "changes": list(self.composed.changes),
            "init_from": self.options.init_from,
            # A branch stays one when it is resumed by its name.
            "branch_from": self.options.branch_from or self._former_header().get("branch_from"),
        }

    def _header(self, loop: Loop, checkpoint: Path | None) -> None:
        trainable, everything = parameter_counts(loop.task)
        device = str(self.ranks.device)
        if self.ranks.device.type == "cuda":
            device += f" ({torch.cuda.get_device_name(self.ranks.device)})"
        else:
            kept = ", freed memory kept" if self.memory_kept else ""
            device += f" ({torch.get_num_threads()} threads{kept})"
        lines = [
            ("run", str(self.run_dir.path)),
            ("config", f"{self.composed.target}, {len(self.composed.changes)} changes"),
            ("device", f"{device}, {loop.trainer.precision}, {self.ranks.world_size} rank(s)"),
            ("model", f"{everything:,} parameters, {trainable:,} trainable"),
            *(("task", line) for line in loop.task.summary()),
            *(("data", line) for line in loop.experiment.data.summary()),
            ("steps", f"{loop.progress.step} done, {loop.total_steps} in all"),
        ]
        if checkpoint is not None:
            lines.append(("resume", checkpoint.name))
        for label, text in lines:
            self.say(f"{label:<7} {text}")
        for note in self.composed.notes:
            self.say(f"note    {note}")
        for change in self.composed.changes:
            self.say(f"changed {change}")

    def _test(self, loop: Loop) -> dict[str, float]:
        """Evaluate the test splits with the best weights, once."""
        splits = loop.experiment.data.test_splits
        best: Path | None = self.ranks.broadcast(self._best())
        # The validation figures of the weights that are tested, not of the last ones.
        known = checkpoint_format.read_meta(best)["metrics"] if best else loop.metrics
        shown = loop.experiment.data.eval_splits
        metrics = {k: v for k, v in known.items() if v is not None and k.split("/")[0] in shown}
        if not splits:
            return metrics
        with ExitStack() as stack:
            if best is not None:
                weights = checkpoint_format.read_inference_model(best)
                load_strict(loop.task, weights, source=str(best))
            else:
                stack.enter_context(loop.ema.applied() if loop.ema else nullcontext())
            self.say(f"testing with {best.name if best else 'the last weights'}")
            for split in splits:
                metrics |= loop.evaluate(split)
        loop.record({k: v for k, v in metrics.items() if k.split("/")[0] in splits})
        return metrics

    def _best(self) -> Path | None:
        return CheckpointStore(self.run_dir.checkpoints).best() if self.ranks.is_main else None

    def _already_finished(self, loop: Loop) -> Outcome:
        results = read_results(self.run_dir.path / RESULTS)
        self.say(
            f"this run is finished: {loop.progress.step} steps; change a setting to start another, "
            "or add --resume never to train the same anew"
        )
        return self._close(loop, "finished", results)

    def _close(self, loop: Loop, status: str, metrics: dict[str, float]) -> Outcome:
        outcome = Outcome(directory=self.run_dir.path, status=status, metrics=metrics)
        if self.ranks.is_main:
            self.run_dir.set_status(status, step=loop.progress.step)
        if status == "stopped":
            outcome.exit_code = self.stop.exit_code
            if loop.exhausted is not None and not self.stop.requested:
                self.say(loop.exhausted)
            self.say(
                f"stopped at step {loop.progress.step} and saved; the same command goes on from it"
            )
            return outcome
        if self.ranks.is_main:
            write_results(
                self.run_dir.path / RESULTS,
                {"step": loop.progress.step, "epoch": loop.progress.epoch, **metrics},
            )
        for line in result_lines(metrics):
            self.say(line)
        return outcome
