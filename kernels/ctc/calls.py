"""What the opaque ops of both losses share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

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
