"""Which learning rate is the run's, where parameter groups have rates of their own."""

from __future__ import annotations

from torch.optim import Optimizer


def plain_group(optimizer: Optimizer) -> int:
    """Return the index of the first group at the optimiser's own rate; 0 if there is none.

    Groups come in the order of the parameters, so the first may well be one that learns slower.
    Call it on a new optimiser, before a schedule or a checkpoint has set rates.
    """
    rate = optimizer.defaults.get("lr")
    rates = [group["lr"] for group in optimizer.param_groups]
    return rates.index(rate) if rate in rates else 0
