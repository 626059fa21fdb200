"""One optimiser step: micro-batches forward and backward, weighed by their targets.

The objective of a step is the sum over losses of ``weight * total / count``, where totals and
counts run over all micro-batches and all ranks. Counts are known before the first forward pass
(:meth:`Task.counts`), so each micro-batch is divided by the same number wherever it is computed,
and accumulation, ragged batches and ranks agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from core.contracts import Batch, LossSum, Task
from core.dist.ranks import Ranks
from core.errors import ConfigError
from core.train.trainer import Trainer

SWITCH = "synchronise"
"""Attribute of modules that can share batch statistics over ranks; see ``MaskedBatchNorm``."""
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What an optimiser step did; sums are over all ranks.

    Args:
        sums: (total, count) of each loss and train metric.
        objective: the value whose gradient was taken.
        grad_norm: L2 norm of the gradient before clipping.
        finite: whether loss and gradient were finite; if not, no parameter moved.
        overflow: fp16 gradients overflowed while the loss was finite: the scale was too large.
        stop: whether any rank was asked to stop.
    """

    sums: dict[str, tuple[float, float]]
    objective: float
    grad_norm: float
    finite: bool
    overflow: bool
    stop: bool


class Stepper:
    """Takes optimiser steps for a task on this rank.

    Args:
        task: the stage's modules, already on the device.
        optimizer: over the task's parameters.
        trainer: precision, clipping and synchronisation settings.
        ranks: the processes that share the step.
    """

    def __init__(
        self, *, task: Task, optimizer: torch.optim.Optimizer, trainer: Trainer, ranks: Ranks
    ) -> None:
        self.task = task
        self.optimizer = optimizer
        self.trainer = trainer
        self.ranks = ranks
        self.module: nn.Module = _distribute(task, trainer, ranks)
        self.scaler = GradScaler(ranks.device.type, enabled=trainer.precision == "fp16")
        self._buffers = [b for b in task.buffers() if b.is_floating_point()]
        self.counts: dict[str, float] = {}
        """Targets of each loss in the last step, over all ranks."""

    def __call__(self, batches: Sequence[Batch], *, stop: bool) -> StepReport:
        """Take one step over this rank's micro-batches.

        Args:
            batches: micro-batches, on the device.
            stop: whether this rank was asked to stop; reported as true if any rank was.
        """
        self.optimizer.zero_grad(set_to_none=True)
        before = [buffer.clone() for buffer in self._buffers]
        prepared, counts, stop = self._count(batches, stop=stop)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(prepared):
            last = number == len(prepared) - 1
            with self._no_sync(last), self.autocast():
                losses: dict[str, LossSum] = self.module(batch)
                objective = self._objective(losses, counts)
            with self._no_sync(last):
                self.scaler.scale(objective).backward()
            if len(batch):
                self._collect(sums, losses)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        report = self._report(sums, counts, float(norm), stop=stop)
        self.counts = {name: report.sums[name][1] for name in self.task.loss_names}
        if report.finite:
            # Without a target there is no gradient, and momentum alone must not move weights.
            if any(report.sums[name][1] > 0 for name in self.task.loss_names):
                self.scaler.step(self.optimizer)
        else:
            # A poisoned running statistic would outlive the step that is being skipped.
            for buffer, value in zip(self._buffers, before, strict=True):
                buffer.copy_(value)
        self.scaler.update()
        self._share_buffers()
        return report

    def autocast(self) -> AbstractContextManager[object]:
        """Return the precision context of this run."""
        dtype = AUTOCAST.get(self.trainer.precision)
        return torch.autocast(self.ranks.device.type, dtype) if dtype else nullcontext()

    def _count(
        self, batches: Sequence[Batch], *, stop: bool
    ) -> tuple[list[Batch], dict[str, Tensor], bool]:
        """Prepare micro-batches and sum their target counts over ranks, in one reduction."""
        with torch.no_grad(), self.autocast():
            prepared = [self.task.prepare(b) if len(b) else b for b in self._usable(batches)]
            names = self.task.loss_names
            vector = torch.zeros(len(names) + 1, dtype=torch.float64, device=self.ranks.device)
            for batch in prepared:
                if len(batch):
                    counts = self.task.counts(batch)
                    vector[:-1] += torch.stack([counts[name].double() for name in names])
        vector[-1] = float(stop)
        vector = self.ranks.sum(vector)
        counts = dict(zip(names, vector[:-1], strict=True))
        return prepared, counts, bool(vector[-1] > 0)

    def _usable(self, batches: Sequence[Batch]) -> list[Batch]:
        """Drop, on all ranks, micro-batches that came up empty on one of them under SyncBatchNorm.

        An empty batch does not reach the batch norms, whose collectives would then wait for ever.
        """
        if not (self.trainer.sync_batchnorm and self.ranks.world_size > 1):
            return list(batches)
        empty = torch.tensor([float(len(b) == 0) for b in batches], device=self.ranks.device)
        somewhere = self.ranks.sum(empty).tolist()
        return [batch for batch, missing in zip(batches, somewhere, strict=True) if not missing]

    def _objective(self, losses: dict[str, LossSum], counts: dict[str, Tensor]) -> Tensor:
        terms = []
        for name, loss in losses.items():
            if name not in counts:
                terms.append(loss.total)  # The zero of an empty batch.
                continue
            # A step without a single target contributes zero, not 0/0. DDP averages over ranks.
            count = counts[name].clamp_min(1.0)
            terms.append(loss.total * (loss.weight * self.ranks.world_size / count).float())
        return torch.stack(terms).sum()

    def _collect(self, sums: dict[str, Tensor], losses: dict[str, LossSum]) -> None:
        metrics = self.task.train_metrics()
        for name in self.task.loss_names:
            if name in losses:
                weight = losses[name].weight
                total = losses[name].total.detach().double()
                pair = torch.stack([total, total * weight, total.new_tensor(1.0)])
                sums[name] = sums[name] + pair if name in sums else pair
        for name, metric in metrics.items():
            total = torch.as_tensor(metric.total, dtype=torch.float64, device=self.ranks.device)
            count = torch.as_tensor(metric.count, dtype=torch.float64, device=self.ranks.device)
            pair = torch.stack([total, count, count.new_tensor(1.0)])
            sums[name] = sums[name] + pair if name in sums else pair

    def _report(
        self, sums: dict[str, Tensor], counts: dict[str, Tensor], norm: float, *, stop: bool
    ) -> StepReport:
        names = (*self.task.loss_names, *self.task.metric_names)
        zero = torch.zeros(3, dtype=torch.float64, device=self.ranks.device)
        table = self.ranks.sum(torch.stack([sums.get(name, zero) for name in names])).cpu()
        pairs: dict[str, tuple[float, float]] = {}
        objective = 0.0
        for name, row in zip(names, table.tolist(), strict=True):
            if name in counts:
                count = float(counts[name])
                pairs[name] = (row[0], count)
                objective += row[1] / max(count, 1.0)
            else:
                pairs[name] = (row[0], row[1])
        loss_finite = bool(torch.isfinite(table).all())
        grad_finite = norm == norm and abs(norm) != float("inf")
        return StepReport(
            sums=pairs,
            objective=objective,
            grad_norm=norm,
            finite=loss_finite and grad_finite,
            # At scale 1 nothing was scaled up: such a gradient is broken, not overflown.
            overflow=loss_finite and not grad_finite and self.scaler.get_scale() > 1.0,
            stop=stop,
        )

    def _clip(self) -> Tensor:
        """Return the norm of all gradients, and scale them down if it is finite and too large."""
        parameters = [p for p in self.task.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.trainer.clip_norm is not None and bool(torch.isfinite(norm)):
            nn.utils.clip_grads_with_norm_(parameters, self.trainer.clip_norm, norm)
        return norm

    def _share_buffers(self) -> None:
        """Give all ranks the main rank's running statistics: they validate what is saved."""
        if self.ranks.world_size > 1 and not self.trainer.sync_batchnorm:
            for buffer in self._buffers:
                dist.broadcast(buffer, src=0)

    def _no_sync(self, last: bool) -> AbstractContextManager[object]:
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()


def _distribute(task: Task, trainer: Trainer, ranks: Ranks) -> nn.Module:
    if trainer.sync_batchnorm:
        _synchronise_batchnorm(task)
    if ranks.world_size == 1:
        return task
    # A depthwise weight (C, 1, k) has a dimension of size 1, whose stride means nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    on_gpu = ranks.device.type == "cuda"
    return DistributedDataParallel(
        task,
        device_ids=[ranks.device.index] if on_gpu else None,
        gradient_as_bucket_view=True,
    )


def _synchronise_batchnorm(task: Task) -> None:
    """Turn on the ``synchronise`` switch of every module that has one.

    Raises:
        ConfigError: if no module has batch statistics to share.
    """
    found = [module for module in task.modules() if hasattr(module, SWITCH)]
    if not found:
        raise ConfigError(
            "trainer.sync_batchnorm is on, but no module of the task has batch-norm statistics; "
            "choose a batch norm or switch it off"
        )
    for module in found:
        setattr(module, SWITCH, True)
