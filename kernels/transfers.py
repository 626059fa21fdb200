"""Copies for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return what the host has made, a few integers, on a device."""
    if values.device == device or device.type != "cuda":
        return values.to(device)
    # Only from page-locked memory is the copy in the order of the stream.
    return values.pin_memory().to(device, non_blocking=True)
