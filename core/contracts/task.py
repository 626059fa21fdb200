"""The stage itself: modules, losses, metrics.

Shapes use B for utterances in a batch, S for samples, T for frames, F for feature bins, D for model
width, U for target tokens and V for vocabulary entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from core.contracts.records import Artifact, Batch, LossSum, MetricSum, Transcript
from core.contracts.run import RunContext


class Task(nn.Module, ABC):
    """A stage: it owns its modules and says how a batch becomes losses.

    The loop calls :meth:`prepare` and :meth:`counts` for all micro-batches of a step, sums the
    counts over micro-batches and ranks, and only then runs each micro-batch forward and backward
    with its losses divided by those sums. Gradients therefore weigh targets, never batches.

    Names of losses and metrics are declared, not discovered: ranks reduce them as one vector and
    must agree on its layout even when one of them has an empty batch.
    """

    loss_names: ClassVar[tuple[str, ...]]
    """Keys of what :meth:`step` and :meth:`counts` return."""
    metric_names: ClassVar[tuple[str, ...]] = ()
    """Keys of what :meth:`train_metrics` returns."""

    fresh_children: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Submodules that ``--init-from`` leaves as they are drawn, and why: they are of one run."""

    @abstractmethod
    def setup(self, context: RunContext) -> None:
        """Size what depends on fitted assets. Called once after DataModule.setup."""

    def prepare(self, batch: Any) -> Any:  # noqa: ANN401
        """Draw what a step needs before its targets can be counted, such as masks; no gradient."""
        return batch

    @abstractmethod
    def counts(self, batch: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the number of targets behind each loss of :meth:`step`, as float64 scalars."""

    @abstractmethod
    def step(self, batch: Any) -> dict[str, LossSum]:  # noqa: ANN401
        """Return the losses of a training batch."""

    @abstractmethod
    def evaluate(self, batch: Any) -> dict[str, MetricSum]:  # noqa: ANN401
        """Return the metrics of an evaluation batch; no gradient."""

    def artifacts(self, batch: Any, *, limit: int) -> list[Artifact]:  # noqa: ANN401
        """Return what to show for up to ``limit`` utterances of an evaluation batch."""
        return []

    def after_step(self, *, finite: bool) -> None:
        """Do what belongs to an optimiser step and not to its micro-batches, such as a schedule.

        Called on every rank once for each step, after weights have moved and before validation.

        Args:
            finite: whether the step was taken; a non-finite one was skipped.
        """

    def ready_from(self) -> int:
        """Return the first step whose weights are what the task trains them to be.

        Later than 0 where training begins with something else: by loss alone, the best weights may
        then be of before.
        """
        return 0

    def train_metrics(self) -> dict[str, MetricSum]:
        """Return extra sums of the last :meth:`step`, such as an accuracy."""
        return {}

    def summary(self) -> list[str]:
        """Return lines for the run header: which kernels, which fallbacks."""
        return []

    def outline(self) -> list[str]:
        """Return lines on the model's size for ``--dry-run``: no data, no weights, no memory."""
        return []

    def compile_targets(self) -> tuple[nn.Module, ...]:
        """Return the submodules that ``trainer.compile`` compiles, each with dynamic shapes."""
        return ()

    def forward(self, batch: Batch) -> dict[str, LossSum]:
        """Run :meth:`step`; a batch without utterances gives a zero that reaches every parameter.

        A rank whose whole batch was skipped must still take part in the gradient reduction.
        """
        if len(batch) > 0:
            return self.step(batch)
        parameters = [p for p in self.parameters() if p.requires_grad]
        zero = torch.stack([(p * 0.0).sum() for p in parameters]).sum()
        return {"empty": LossSum(total=zero, count=0.0)}


class Comparison(Protocol):
    """What changed from one report to another, on the same utterances."""

    def lines(self, *, worst: int = 10) -> list[str]:
        """Return the comparison for people, with up to ``worst`` utterances that got worse."""

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""


class ErrorReport(Protocol):
    """Collects hypotheses beside their references and tells the error rates."""

    def add(self, *, id: str, reference: str, hypothesis: str, speaker: str | None = None) -> Any:  # noqa: ANN401
        """Compare one utterance."""

    def beside(self, baseline: Any) -> Comparison:  # noqa: ANN401
        """Compare with the report of another model, of the same kind. Raises DataError."""

    def lines(self, *, worst: int = 10) -> list[str]:
        """Return the report for people."""

    def as_dict(self, *, worst: int = 10) -> dict[str, Any]:
        """Return the report for JSON."""


class TranscribingTask(Task):
    """A task whose model turns speech into text."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Sample rate that the model expects, in Hz."""

    @abstractmethod
    def transcribe(self, batch: Any) -> list[Transcript]:  # noqa: ANN401
        """Return what is heard in each utterance; no gradient."""

    @abstractmethod
    def error_report(self) -> ErrorReport:
        """Return an empty report with the error rates that suit the task."""
