"""Writing feature arrays of utterances to shards that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from core.checkpoint.atomic import naming, scratch, seal, sweep, sync_directory, write_bytes
from core.data.feature_index import (
    DTYPES,
    FINGERPRINT,
    INDEX,
    SHARDS,
    STORE_FIELD,
    ShardRecord,
    StoredDtype,
    checksum,
    index_bytes,
    read_shard,
    shard_metadata,
)
from core.data.fingerprint import Fingerprint
from core.data.npy import ArrayError
from core.errors import DataError, RunDirError
from core.runlock import RunLock

SHARD_BYTES = 500_000_000


class FeatureWriter:
    """Stores 2-D arrays by utterance id; goes on where a former writer of the folder stopped.

    A shard is held in memory until it has its size. One that is finished stays, whatever ends the
    process; what was added since goes with the process and is to be added again. :meth:`finish`
    writes the last shard and the index, without which a folder cannot be read.

    Args:
        folder: of the shards; made if need be.
        fingerprint: settings the features are made with.
        values: names of the numbers that belong to each array.
        dtype: arrays are stored in.
        shard_bytes: a shard is finished as soon as its arrays have this many bytes.

    Raises:
        FingerprintError: the folder has features that were made with other settings.
        DataError: another process is writing, or a shard is damaged.
    """

    def __init__(
        self,
        *,
        folder: Path,
        fingerprint: Fingerprint,
        values: Sequence[str] = (),
        dtype: StoredDtype = "bf16",
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = folder
        stored = {"dtype": dtype, "values": list(values)}
        self._fields = Fingerprint(fields={**fingerprint.fields, STORE_FIELD: stored})
        self._names = tuple(values)
        self._dtype = DTYPES[dtype]
        self._shard_bytes = shard_bytes
        self._arrays: dict[str, Tensor] = {}
        self._values: list[list[float]] = []
        self._size = 0
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with naming(folder / "lock"):
                self._lock = RunLock(folder / "lock")
        except RunDirError as error:
            raise DataError(f"features in {folder}: another process is writing them") from error
        try:
            self._shards = self._resume()
        except BaseException:
            self._lock.close()
            raise
        self._stored = {
            identity: dict(zip(self._names, row, strict=True))
            for shard in self._shards
            for identity, row in zip(shard.ids, shard.values.tolist(), strict=True)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()

    def __contains__(self, identity: str) -> bool:
        return identity in self._stored or identity in self._arrays

    def __len__(self) -> int:
        return len(self._stored) + len(self._arrays)

    def values(self, identity: str) -> dict[str, float] | None:
        """Return the numbers in a finished shard of an utterance; None if it has none."""
        return self._stored.get(identity)

    def add(self, identity: str, array: Tensor, values: Mapping[str, float] | None = None) -> None:
        """Store a 2-D floating-point array, rounded to the store's dtype.

        Raises:
            ArrayError: the id cannot be a name; the array is empty, not 2-D or not finite.
            DataError: the id is stored already; the values are not those the store has names for;
                a shard cannot be written.
        """
        self._check(identity, array)
        given = dict(values or {})
        if set(given) != set(self._names):
            raise DataError(f"'{identity}': values {sorted(given)}; expected {sorted(self._names)}")
        stored = array.detach().to("cpu", self._dtype, copy=True).contiguous()
        self._arrays[identity] = stored
        self._values.append([float(given[name]) for name in self._names])
        self._size += stored.nbytes
        if self._size >= self._shard_bytes:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and the index. Raises DataError if there is nothing at all."""
        self._flush()
        if not self._shards:
            raise DataError(f"features in {self.folder}: there is not one to write an index of")
        content = index_bytes(self._shards, fingerprint=self._fields.digest, names=self._names)
        write_bytes(self.folder / INDEX, content)

    @property
    def size(self) -> int:
        """Bytes of the finished shards."""
        return sum(shard.size for shard in self._shards)

    def _check(self, identity: str, array: Tensor) -> None:
        if not identity or identity == "__metadata__":
            detail = f"the id '{identity}' cannot be the name of an array"
            raise ArrayError(reason="array name", detail=detail)
        if identity in self:
            raise DataError(f"'{identity}' is stored already; expected an id that is not")
        if array.ndim != 2 or 0 in array.shape:
            shape = tuple(array.shape)
            detail = f"'{identity}' has shape {shape}; expected two dimensions, not empty"
            raise ArrayError(reason="array shape", detail=detail)
        if not array.is_floating_point() or not bool(array.isfinite().all()):
            detail = f"'{identity}' has values that are not finite floating-point numbers"
            raise ArrayError(reason="array values", detail=detail)

    def _resume(self) -> list[ShardRecord]:
        """Return the finished shards; remove what a dead writer left half-written."""
        sweep(self.folder)
        kept = self.folder / FINGERPRINT
        if kept.exists():
            Fingerprint.read(kept).require(self._fields, place=self.folder)
        else:
            write_bytes(kept, self._fields.to_json())
        shards = [read_shard(path) for path in sorted(self.folder.glob(SHARDS))]
        for shard in shards:
            if shard.fingerprint != self._fields.digest:
                raise DataError(f"{self.folder / shard.name}: its fingerprint is not the folder's")
        return shards

    def _flush(self) -> None:
        if not self._arrays:
            return
        metadata = shard_metadata(
            fingerprint=self._fields.digest,
            ids=list(self._arrays),
            checksums=[checksum(array) for array in self._arrays.values()],
            values=self._values,
        )
        path = self._next_path()
        # Killed, safetensors leaves a scratch file of its own; its files only the owner may read.
        with naming(path), scratch(self.folder, path.stem) as work:
            partial = work / path.name
            try:
                save_file(self._arrays, partial, metadata)
            except SafetensorError as error:
                raise DataError(f"{path} cannot be written: {error}") from error
            partial.chmod((self.folder / FINGERPRINT).stat().st_mode)
            seal(partial)
            os.replace(partial, path)
            work.rmdir()
        sync_directory(self.folder)
        self._shards.append(read_shard(path))
        self._shards.sort(key=lambda shard: shard.name)
        for identity, row in zip(self._arrays, self._values, strict=True):
            self._stored[identity] = dict(zip(self._names, row, strict=True))
        self._arrays, self._values, self._size = {}, [], 0

    def _next_path(self) -> Path:
        """Return the first free name: a shard that was removed as damaged leaves a gap to fill."""
        taken = {shard.name for shard in self._shards}
        names = (f"shard-{number:05d}.safetensors" for number in range(len(taken) + 1))
        return self.folder / next(name for name in names if name not in taken)
