"""How a byte budget for logits is spent on frames and books."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.chunks import rows_per_chunk

# A product with fewer rows than this takes its time from reading the weight.
LEAST_ROWS = 32


def rows_at_once(
    chunk_bytes: int | None, bytes_per_row: int, device: torch.device, frames: int
) -> int:
    """Return how many rows of logits a chunk may hold.

    Args:
        chunk_bytes: what the user allows, kept to (down to one row); None for the device's
            default, which gives way where it would leave fewer than 32 rows.
        bytes_per_row: that one row takes at the peak.
        device: of the computation.
        frames: that there are; a chunk has no use for a budget of more than all books of them.
    """
    return rows_per_chunk(bytes_per_row, device, chunk_bytes, least=min(LEAST_ROWS, frames))


def book_groups(books: int, frames: int, rows: int) -> Iterator[slice]:
    """Yield slices of books: as many at once as fit with all their frames, one at least."""
    return _even_slices(books, max(1, rows // max(frames, 1)))


def frame_chunks(frames: int, books: int, rows: int) -> Iterator[slice]:
    """Yield slices of frames whose rows for ``books`` books fit."""
    return _even_slices(frames, max(1, rows // books))


def _even_slices(total: int, most: int) -> Iterator[slice]:
    """Yield the fewest slices of at most ``most``, as even as can be, for no small remainder."""
    number = -(-total // most)
    for position in range(number):
        yield slice(total * position // number, total * (position + 1) // number)
