"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from components.optimizers.groups import Decay, parameter_groups
from core.registry import register


@register("optimizer", "adamw")
class AdamW:
    """Build ``torch.optim.AdamW`` (Loshchilov and Hutter 2019) over decay groups.

    Frozen parameters are left out. Groups carry their ``name`` and ``param_names``.

    Args:
        lr: base rate, which the scheduler's factor multiplies.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: of the parameters that decay.
        decay: which those are. ``matrices``: all but biases, normalisation layers, embeddings and
            parameters with fewer than two dimensions. ``all``: these too, which is NeMo's
            behaviour; without patterns it makes one group.
        no_decay: glob patterns of further parameter names without decay, with either; each must
            match.
        lr_scale: glob pattern of parameter names to factor of ``lr``; each must match.
        fused: use the fused implementation; None takes it when all parameters are on CUDA.
    """

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        decay: Literal["matrices", "all"] = "matrices",
        no_decay: tuple[str, ...] = (),
        lr_scale: Mapping[str, float] | None = None,
        fused: bool | None = None,
    ) -> None:
        self.lr = lr
        self.betas = (betas[0], betas[1])
        self.eps = eps
        self.weight_decay = weight_decay
        self.decay: Decay = decay
        self.no_decay = tuple(no_decay)
        self.lr_scale = dict(lr_scale or {})
        self.fused = fused

    def __call__(self, module: nn.Module) -> torch.optim.AdamW:
        """Return an optimiser over the trainable parameters of ``module``.

        Raises:
            ConfigError: nothing is trainable, or a pattern does not match as it must.
        """
        groups = parameter_groups(
            module,
            lr=self.lr,
            weight_decay=self.weight_decay,
            no_decay=self.no_decay,
            lr_scale=self.lr_scale,
            decay=self.decay,
        )
        fused = self.fused
        if fused is None:
            fused = all(value.is_cuda for group in groups for _, value in group["params"])
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)
