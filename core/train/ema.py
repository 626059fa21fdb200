"""Exponential moving average of the weights (Polyak & Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """A second set of weights that follows the trained one; used for validation and export.

    The effective decay is ``min(decay, (1 + n) / (10 + n))`` after n updates, so that the average
    is not dominated by the initial weights. Buffers are copied, not averaged.

    Args:
        module: whose parameters and buffers are followed.
        decay: in (0, 1).
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.updates = 0
        self.shadow: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights; call after each optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(self.module.named_parameters())
        for name, value in self.module.state_dict().items():
            if name in parameters and value.is_floating_point():
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the module for the length of a block."""
        trained = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.shadow)
        try:
            yield
        finally:
            self.module.load_state_dict(trained)

    def load(self, shadow: Mapping[str, Tensor], updates: int) -> None:
        """Take back the averaged weights and the number of updates behind them."""
        self.updates = updates
        for name, value in self.shadow.items():
            value.copy_(shadow[name])
