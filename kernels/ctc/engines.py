"""The engine of a call."""

from __future__ import annotations

import torch

from kernels.ctc.engine import Engine
from kernels.ctc.torch import ENGINE
from kernels.dispatch import choose


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
    if backend == "triton" or (backend == "auto" and device.type == "cuda"):
        from kernels.ctc import triton

        choice = choose(op, backend, device, unsupported=triton.unsupported(max_labels))
        if choice.backend == "triton":
            return triton.ENGINE
    else:
        choose(op, backend, device)
    return ENGINE
