"""How many rows of a large intermediate fit into a budget of bytes."""

from __future__ import annotations

from typing import Final

import torch

CPU_BYTES: Final = 8 << 20
"""What stays in the cache of a CPU."""

OTHER_BYTES: Final = 128 << 20
"""What fills a GPU."""


def rows_per_chunk(
    bytes_per_row: int,
    device: torch.device,
    chunk_bytes: int | None,
    *,
    cpu_bytes: int = CPU_BYTES,
    least: int = 1,
) -> int:
    """Return how many rows a chunk may hold, at least one.

    Args:
        bytes_per_row: that one row takes at the peak.
        device: of the computation.
        chunk_bytes: what the caller allows, kept to down to one row; None for the device's default.
        cpu_bytes: default on a CPU.
        least: rows for which a default gives way; fewer would not be worth a chunk.
    """
    if chunk_bytes is not None:
        return max(1, chunk_bytes // bytes_per_row)
    budget = cpu_bytes if device.type == "cpu" else OTHER_BYTES
    return max(1, least, budget // bytes_per_row)
