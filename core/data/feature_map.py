"""A shard of feature arrays in memory, as bytes of its file: nothing is copied, little is computed.

The library's own reader makes a tensor in about ten microseconds. That is as much as copying the
array takes, so the offsets are read from the header once instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson
import torch
from safetensors import safe_open

from core.data.feature_index import file_metadata

_LENGTH = 8
_DTYPES: dict[str, type[np.generic]] = {"BF16": np.int16, "F32": np.float32}

Stored: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""(N, K) float32, or the bits of bfloat16 as int16, which numpy has no type for."""


def as_bits(tensor: torch.Tensor) -> Stored:
    """Return a tensor of float32 or bfloat16 as numpy sees it, sharing memory."""
    wide = tensor.dtype == torch.float32
    found: Stored = (tensor if wide else tensor.view(torch.int16)).numpy()
    return found


def from_bits(array: Stored) -> torch.Tensor:
    """Return what :func:`as_bits` was given."""
    tensor = torch.from_numpy(array)
    return tensor if tensor.dtype == torch.float32 else tensor.view(torch.bfloat16)


class MappedShard:
    """The arrays of one safetensors file by name.

    Args:
        path: of the file.

    Raises:
        OSError, SafetensorError, KeyError, ValueError: it cannot be read, or is damaged.
        DataError: it is of another format.
    """

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:  # Compares header and size of the file.
            self.metadata = file_metadata(file, path)
        with path.open("rb") as plain:
            length = int.from_bytes(plain.read(_LENGTH), "little")
            header = orjson.loads(plain.read(length))
        self._begin = _LENGTH + length
        self._entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        # Mapped privately, as safetensors itself does, not to be written to.
        size = path.stat().st_size
        self._bytes = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()

    def __getitem__(self, name: str) -> Stored:
        """Return an array as it is stored. Raises KeyError."""
        entry = self._entries[name]
        first, last = entry["data_offsets"]
        raw = self._bytes[self._begin + first : self._begin + last]
        return raw.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
