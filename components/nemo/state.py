"""The tensors of a module by the names of a task, the fixed ones of its features included."""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = ("window", "filters")
"""Buffers that follow from settings: no checkpoint of ours holds them, NeMo's do."""


def as_task(module: nn.Module) -> nn.Module:
    """Return the module if it has an ``encoder``; else one whose encoder it is."""
    return module if hasattr(module, "encoder") else nn.ModuleDict({"encoder": module})


def state_of(task: nn.Module) -> dict[str, Tensor]:
    """Return the state of a task, with the window and the filters of its features."""
    features = getattr(task, "features", None)
    buffers = {f"features.{name}": getattr(features, name, None) for name in FEATURES}
    return {**{n: b for n, b in buffers.items() if isinstance(b, Tensor)}, **task.state_dict()}
