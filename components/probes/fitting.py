"""Fresh probes: linear and two-layer networks, fitted with early stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Kind: TypeAlias = Literal["linear", "mlp"]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of outputs (B, O) for targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """How probes are fitted.

    Args:
        hidden: units of the two-layer probe.
        epochs: at most.
        patience: epochs without a better loss on the stopping rows before it ends.
        batch: rows of a step; down to 8 where there are few rows, so that an epoch has 16 steps.
        lr: of the two-layer probe; the linear one takes three times as much.
        weight_decay: of matrices and biases alike.
    """

    hidden: int = 256
    epochs: int = 60
    patience: int = 5
    batch: int = 256
    lr: float = 2e-3
    weight_decay: float = 1e-2


def standardise(features: Tensor, train: Tensor) -> Tensor:
    """Give every dimension mean 0 and deviation 1 over the training rows; constants become 0."""
    chosen = features[train]
    deviation, centre = torch.std_mean(chosen, dim=0)
    scale = torch.where(deviation > 1e-8 * centre.abs().clamp_min(1e-20), 1.0 / deviation, 0.0)
    return (features - centre) * scale.nan_to_num(0.0, 0.0, 0.0)


def fit(
    kind: Kind,
    *,
    train: tuple[Tensor, Tensor],
    stop: tuple[Tensor, Tensor],
    outputs: int,
    loss: Loss,
    fitting: Fitting,
    seed: int,
) -> nn.Module:
    """Return a probe at the epoch that was best on the stopping rows; float32, on the CPU.

    Torch's random state is neither used nor changed.

    Args:
        kind: ``linear`` or ``mlp``.
        train: (n, D) features and targets to learn from.
        stop: the same, to decide when to end.
        outputs: width of the probe's output.
        loss: to minimise.
        fitting: settings.
        seed: of weights and order.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = train
    with torch.random.fork_rng(devices=[]):
        probe = _probe(kind, x.shape[1], outputs, fitting.hidden)
    _draw(probe, generator)
    rate = fitting.lr * (3.0 if kind == "linear" else 1.0)
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=rate, weight_decay=fitting.weight_decay, fused=True
    )
    size = max(min(fitting.batch, len(x) // 16), min(fitting.batch, 8))
    best, since = _evaluate(probe, stop, loss), 0
    kept = {name: value.clone() for name, value in probe.state_dict().items()}
    for _ in range(fitting.epochs):
        for rows in torch.randperm(len(x), generator=generator).split(size):
            optimizer.zero_grad()
            loss(probe(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        value = _evaluate(probe, stop, loss)
        since += 1
        if value < best:
            best, since = value, 0
            kept = {name: weight.clone() for name, weight in probe.state_dict().items()}
        if since >= fitting.patience:
            break
    probe.load_state_dict(kept)
    return probe


def _probe(kind: Kind, inputs: int, outputs: int, hidden: int) -> nn.Module:
    if kind == "linear":
        return nn.Sequential(nn.Linear(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


@torch.no_grad()
def _draw(probe: nn.Module, generator: torch.Generator) -> None:
    layers = [layer for layer in probe.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        layer.bias.zero_()
    layers[-1].weight.mul_(0.1)  # So that it begins near to knowing nothing.


@torch.no_grad()
def _evaluate(probe: nn.Module, rows: tuple[Tensor, Tensor], loss: Loss) -> float:
    return float(loss(probe(rows[0]), rows[1]))
