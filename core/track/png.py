"""PNG without an imaging library (ISO/IEC 15948, 8-bit RGB, no filter)."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np


def encode_png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Return a PNG file of (H, W, 3) uint8 pixels. Raises ValueError for anything else."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"expected (H, W, 3) uint8 pixels, found {pixels.shape} {pixels.dtype}")
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # column 0: filter type "none"
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
