"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import ConfigErrors


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How long, how precisely and on what to train.

    Args:
        max_steps: optimiser steps to take; None to train by ``max_epochs``.
        max_epochs: passes over the training data; None to train by ``max_steps``.
        accumulation: micro-batches of each rank in one optimiser step, weighed by targets.
        clip_norm: largest L2 norm of all gradients; None to leave gradients as they are. The norm
            is measured and logged either way.
        ema_decay: keep an exponential moving average of the weights, used for validation, test and
            ``ema.safetensors``; None for none.
        precision: ``fp32``; ``bf16`` or ``fp16`` by autocast, ``fp16`` with loss scaling.
        device: ``auto`` takes CUDA where it is available and says so in the run header.
        log_every: optimiser steps between logged training metrics, which are averages over them.
        validate_every: optimiser steps between validations; also after the last step.
        compile: compile the task with ``torch.compile``.
        sync_batchnorm: compute batch-norm statistics over all ranks.
        threads: CPU threads of each rank; None for torch's own choice.
        skip_nonfinite: steps in a row with a non-finite loss or gradient that are skipped before
            training stops; 0 stops at the first.
        deterministic: refuse operations that have no deterministic implementation.
        collective_timeout: seconds after which a lost rank ends the others.
    """

    max_steps: int | None = None
    max_epochs: int | None = None
    accumulation: int = 1
    clip_norm: float | None = 1.0
    ema_decay: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: int = 50
    validate_every: int = 1000
    compile: bool = False
    sync_batchnorm: bool = False
    threads: int | None = None
    skip_nonfinite: int = 3
    deterministic: bool = False
    collective_timeout: float = 1800.0

    def __post_init__(self) -> None:
        problems = [
            f"trainer.{name}: expected at least 1, got {getattr(self, name)}"
            for name in ("accumulation", "log_every", "validate_every")
            if getattr(self, name) < 1
        ]
        if self.clip_norm is not None and self.clip_norm <= 0:
            problems.append(
                f"trainer.clip_norm: expected more than 0, got {self.clip_norm}; null leaves "
                "gradients as they are"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            problems.append(
                f"trainer.ema_decay: expected a number between 0 and 1, got {self.ema_decay}; "
                "null keeps no average"
            )
        if (self.max_steps is None) == (self.max_epochs is None):
            problems.append("trainer: set exactly one of max_steps and max_epochs")
        if problems:
            raise ConfigErrors(problems)
