"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from components.optimizers.groups import parameter_groups
from core.registry import register


@register("optimizer", "sgd")
class SGD:
    """Build ``torch.optim.SGD`` over the same groups as ``adamw``.

    Args:
        lr: base rate, which the scheduler's factor multiplies.
        momentum: decay rate of the velocity; 0 for none.
        nesterov: look ahead along the velocity (Sutskever et al. 2013); needs momentum.
        weight_decay: L2 penalty of the parameters that decay.
        no_decay: glob patterns of further parameter names without decay; each must match.
        lr_scale: glob pattern of parameter names to factor of ``lr``; each must match.
    """

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        no_decay: tuple[str, ...] = (),
        lr_scale: Mapping[str, float] | None = None,
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.no_decay = tuple(no_decay)
        self.lr_scale = dict(lr_scale or {})

    def __call__(self, module: nn.Module) -> torch.optim.SGD:
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
        )
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)
