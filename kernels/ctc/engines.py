"""The engine of a call."""

from __future__ import annotations

import torch

from kernels.ctc import triton
from kernels.ctc.engine import Engine
from kernels.dispatch import implementation


def engine_for(op: str, backend: str, device: torch.device, max_labels: int) -> Engine:
    """Return the engine that ``backend`` means for tensors on ``device``.

    Args:
        op: name of the op, for messages.
        backend: what the caller asked for.
        device: of the op's tensors.
        max_labels: the width of the targets.

    Raises:
        BackendError: no such backend, or it cannot run here.
    """
    unsupported = triton.unsupported(max_labels)
    module = implementation("kernels.ctc", op, backend, device, unsupported=unsupported)
    engine: Engine = module.ENGINE
    return engine
