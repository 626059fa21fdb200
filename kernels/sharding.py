"""Whether a tensor is a part of one that several processes share."""

from __future__ import annotations

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Say whether it is a DTensor, without the import, which takes a second."""
    return hasattr(tensor, "full_tensor")
