"""What the opaque ops of both losses share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import torch
from torch import Tensor

from kernels.errors import BackendError

LABELS_SCHEMA: Final = "Tensor targets, Tensor input_lengths, Tensor target_lengths"


@contextmanager
def plain(device: torch.device) -> Iterator[None]:
    """Compute on ``device``, in the dtypes of the tensors whatever the caller's autocast state."""
    with torch.autocast(device.type, enabled=False):
        if device.type == "cuda":
            with torch.cuda.device(device):
                yield
        else:
            yield


def second_derivative_refusal(name: str) -> Callable[..., NoReturn]:
    """Return the backward function of an op that computes gradients itself."""

    def refuse(_ctx: Any, *_grads: Tensor | None) -> NoReturn:  # noqa: ANN401
        raise BackendError(f"{name} has no second derivative; with backend='reference' it has")

    return refuse
