"""Names and index of a folder of feature shards: what there is, where, and how to tell damage.

A shard describes itself: its safetensors header has the id and shape of every array, its metadata
checksums and values. The index is made of the shards, holds the same as arrays, and is what a
reader opens: one small file instead of every header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from core.errors import DataError

FORMAT = "sori-features-1"
_KEY = "sori"
"""The one key of the metadata, with JSON: safetensors writes several in no certain order."""

FINGERPRINT = "fingerprint.json"
INDEX = "index.safetensors"
SHARDS = "shard-*.safetensors"
STORE_FIELD = "store"
"""Field of the fingerprint that the writer adds: dtype and names of the values."""

StoredDtype: TypeAlias = Literal["bf16", "float32"]
DTYPES: dict[StoredDtype, torch.dtype] = {"bf16": torch.bfloat16, "float32": torch.float32}

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """What a shard says of itself, its entries in the order in which they were stored.

    Args:
        name: of the file.
        size: of the file, in bytes.
        fingerprint: digest of the settings it was made with.
        ids: of N utterances.
        shapes: (N, 2).
        checksums: (N,) of the stored bytes.
        values: (N, K) numbers that belong to an array, under the names that the store has for them.
    """

    name: str
    size: int
    fingerprint: str
    ids: tuple[str, ...]
    shapes: Integers
    checksums: Integers
    values: Doubles


def checksum(array: Tensor) -> int:
    """Return a 64-bit BLAKE2b of the array's bytes."""
    content = array.contiguous().view(torch.uint8).numpy().data
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def shard_metadata(
    *, fingerprint: str, ids: Sequence[str], checksums: Sequence[int], values: Sequence[list[float]]
) -> dict[str, str]:
    """Return the metadata that :func:`read_shard` reads."""
    return _metadata(
        fingerprint=fingerprint,
        ids=list(ids),
        checksums=list(checksums),
        values=list(values),
    )


def read_shard(path: Path) -> ShardRecord:
    """Read the header of a shard. Raises DataError if it is damaged or not of this format."""
    try:
        with safe_open(path, framework="pt") as file:
            entries = file_metadata(file, path)
            shapes = [file.get_slice(name).get_shape() for name in entries["ids"]]
    except (OSError, SafetensorError, orjson.JSONDecodeError, KeyError) as error:
        raise DataError(
            f"{path} is damaged: {error}; remove it and give the command that made it again"
        ) from error
    count = len(shapes)
    return ShardRecord(
        name=path.name,
        size=path.stat().st_size,
        fingerprint=entries["fingerprint"],
        ids=tuple(entries["ids"]),
        shapes=np.array(shapes, dtype=np.int64).reshape(count, 2),
        checksums=np.array(entries["checksums"], dtype=np.int64),
        values=np.array(entries["values"], dtype=np.float64).reshape(count, -1),
    )


def index_bytes(shards: Sequence[ShardRecord], *, fingerprint: str, names: Sequence[str]) -> bytes:
    """Return the index of shards as the content of a file; the same shards give the same bytes."""
    encoded = [identity.encode() for shard in shards for identity in shard.ids]
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "ids": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "ends": np.cumsum([len(each) for each in encoded], dtype=np.int64),
        "shard": np.repeat(np.arange(len(shards)), [len(shard.ids) for shard in shards]),
        "shape": np.concatenate([shard.shapes for shard in shards]),
        "checksum": np.concatenate([shard.checksums for shard in shards]),
        "values": np.concatenate([shard.values for shard in shards]),
    }
    files = [[shard.name, shard.size] for shard in shards]
    metadata = _metadata(fingerprint=fingerprint, shards=files, values=list(names))
    content: bytes = save(arrays, metadata)
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureIndex:
    """An index as read: N entries, numbered in the order in which they were stored.

    Args:
        fingerprint: digest.
        shards: name and size in bytes of each file.
        names: of the K values.
        ids: of the utterances.
        shard: (N,) which file.
        shapes: (N, 2).
        checksums: (N,).
        values: (N, K).
    """

    fingerprint: str
    shards: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    ids: tuple[str, ...]
    shard: Integers
    shapes: Integers
    checksums: Integers
    values: Doubles


def read_index(path: Path) -> FeatureIndex:
    """Read what :func:`index_bytes` gave. Raises DataError if damaged or of another format."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file_metadata(file, path)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ids, ends = arrays["ids"].tobytes(), [0, *arrays["ends"].tolist()]
        return FeatureIndex(
            fingerprint=metadata["fingerprint"],
            shards=tuple((name, size) for name, size in metadata["shards"]),
            names=tuple(metadata["values"]),
            ids=tuple(ids[a:b].decode() for a, b in pairwise(ends)),
            shard=arrays["shard"],
            shapes=arrays["shape"],
            checksums=arrays["checksum"],
            values=arrays["values"],
        )
    except (OSError, SafetensorError, orjson.JSONDecodeError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: {error}; remove it and give the command that made it again"
        ) from error


def file_metadata(file: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
    """Return the metadata of an open file. Raises DataError if it is of another format."""
    found = orjson.loads((file.metadata() or {}).get(_KEY, "{}"))
    if found.get("format") != FORMAT:
        raise DataError(f"{path}: format is {found.get('format')!r}; expected {FORMAT}")
    metadata: dict[str, Any] = found
    return metadata


def _metadata(**fields: Any) -> dict[str, str]:  # noqa: ANN401
    return {_KEY: orjson.dumps({"format": FORMAT, **fields}).decode()}
