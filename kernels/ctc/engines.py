"""The engine of a call."""

from __future__ import annotations

import importlib
from typing import cast

import torch

from kernels.ctc.engine import Engine
from kernels.ctc.torch import ENGINE
from kernels.dispatch import choose

TRITON_MODULE = "kernels.ctc.triton"


def engine_for(op: str, backend: str, device: torch.device) -> Engine:
    """Return the engine that ``backend`` means for tensors on ``device``.

    Raises:
        BackendError: no such backend, or it cannot run here.
    """
    choice = choose(op, backend, device)
    if choice.backend == "triton":
        return cast(Engine, importlib.import_module(TRITON_MODULE).ENGINE)
    return ENGINE
