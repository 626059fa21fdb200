"""Where mels are kept: ``FOLDER/<id>.npy``, or by shards ``FOLDER/ab/<id>.npy``."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from core.data.npy import SCRATCH, Array
from core.errors import DataError

MelSide: TypeAlias = Literal["target", "prompt", "both"]

FAILED = "failed.jsonl"
"""Audio of which no mel could be made, and why; in the folder of the mels."""

_SHARD = re.compile(rb"[0-9a-f]{2}")
_HEADER = 128
"""Bytes before the data of a two-dimensional version 1 file, as every numpy writes it."""


def sides(side: MelSide) -> tuple[str, ...]:
    """Return the utterances of a row that a choice stands for."""
    return ("target", "prompt") if side == "both" else (side,)


def mel_name(identity: str, *, sharded: bool) -> str:
    """Return the path of a mel inside its folder. Raises ValueError if an id is no file name."""
    if not identity or "/" in identity or "\0" in identity or identity.startswith("."):
        raise ValueError(f"the id '{identity}' cannot be a file name")
    if len(identity.encode()) > 200:
        raise ValueError(f"the id '{identity[:40]}...' is too long for a file name")
    name = f"{identity}.npy"
    return f"{shard(identity.encode())}/{name}" if sharded else name


def shard(identity: bytes) -> str:
    """Return the sub-folder of an id: 256 folders keep each of them small."""
    return hashlib.sha1(identity, usedforsecurity=False).hexdigest()[:2]


class AvailableMels:
    """The ids that a folder has mels of, 8 bytes each.

    Ids are kept as 64-bit hashes: among ten million, the chance that any id without mel is taken
    for one with mel is below one in 100,000, and training would only skip its row.

    Args:
        folder: of the mels.
        num_bins: of a frame; a file whose size is not that of whole frames is not counted, as one
            that was cut off.
    """

    def __init__(self, folder: Path, *, num_bins: int) -> None:
        if not folder.is_dir():
            raise DataError(
                f"mel not found: {folder} is no folder; make it with python -m core.prepare mel"
            )
        self.damaged = 0
        """Files of a wrong size."""
        self._frame = 2 * num_bins  # float16; float32 frames are two of these
        flat, sharded = array("q"), array("q")
        with os.scandir(os.fsencode(folder)) as entries:
            for entry in entries:
                if entry.name.endswith(b".npy"):
                    self._take(entry, flat)
                elif _SHARD.fullmatch(entry.name) and entry.is_dir():
                    with os.scandir(entry.path) as inside:
                        for file in inside:
                            if file.name.endswith(b".npy"):
                                self._take(file, sharded)
        self._flat = np.sort(np.frombuffer(flat, dtype=np.int64))
        self._sharded = np.sort(np.frombuffer(sharded, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._flat) + len(self._sharded)

    def where(self, identities: list[bytes]) -> Array:
        """Return 0 for each id without mel, 1 for one in the folder, 2 for one in a shard."""
        hashes = np.fromiter(map(hash, identities), dtype=np.int64, count=len(identities))
        found = np.zeros(len(hashes), dtype=np.uint8)
        for number, known in ((2, self._sharded), (1, self._flat)):
            if known.size:
                at = np.minimum(np.searchsorted(known, hashes), known.size - 1)
                found[known[at] == hashes] = number
        return found

    def _take(self, entry: os.DirEntry[bytes], into: array[int]) -> None:
        if entry.name.startswith(SCRATCH.encode()):
            return
        data = entry.stat().st_size - _HEADER
        if data > 0 and data % self._frame == 0:
            into.append(hash(entry.name[:-4]))
        else:
            self.damaged += 1
