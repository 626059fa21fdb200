"""Where the tensors of a safetensors file lie, by its header alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file.

    Args:
        file: name of the file.
        name: in the file.
        dtype: as the file spells it.
        shape: of the tensor.
        start: first byte, from the start of the file.
        size: in bytes.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def stored_tensors(file: Path) -> list[StoredTensor]:
    """Return where the tensors of a safetensors file are, in the order of their bytes.

    Raises:
        CheckpointError: the header is damaged, or the file ends before its tensors do.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= size - 8:
                raise ValueError("it has no header, or is cut short")
            header = json.loads(stream.read(length))
        found = [
            _stored(file.name, name, entry, data=8 + length)
            for name, entry in header.items()
            if name != "__metadata__"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is no safetensors file: {error}") from error
    ends = max((place.start + place.size for place in found), default=0)
    if ends > size:
        raise CheckpointError(f"{file} is cut short: {size} bytes of {ends}")
    return sorted(found, key=lambda place: place.start)


def _stored(file: str, name: str, entry: dict[str, Any], *, data: int) -> StoredTensor:
    start, end = (int(offset) for offset in entry["data_offsets"])
    if not 0 <= start <= end:
        raise ValueError(f"{name} lies from {start} to {end}")
    return StoredTensor(
        file=file,
        name=name,
        dtype=entry["dtype"],
        shape=tuple(entry["shape"]),
        start=data + start,
        size=end - start,
    )
