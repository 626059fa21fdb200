"""Reading feature arrays of utterances from shards, at random and without copying."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from core.data.feature_index import (
    FINGERPRINT,
    INDEX,
    STORE_FIELD,
    StoredDtype,
    checksum,
    read_index,
)
from core.data.feature_map import MappedShard, Stored, from_bits
from core.data.fingerprint import Fingerprint
from core.errors import DataError, suggest


class FeatureReader:
    """The arrays of a folder that :class:`core.data.feature_writer.FeatureWriter` finished.

    Opening reads the index and checks that every shard is there and has its size; a shard is
    mapped into memory when it is first read from. A reader may travel to loader workers, by fork
    or by pickle.

    Args:
        folder: of the shards.
        expected: settings they must have been made with; None for any. The dtype that they are
            stored in is compared only where ``expected`` has the field ``store``.

    Raises:
        FingerprintError: they were made with others; it names the fields that differ.
        DataError: no finished store, a shard missing or of another size, a damaged index.
    """

    def __init__(self, *, folder: Path, expected: Fingerprint | None = None) -> None:
        self.folder = folder
        if not (folder / INDEX).is_file():
            raise DataError(
                f"features not found: {folder} has no {INDEX}; make or finish it with "
                f"python -m core.prepare cache MANIFEST {folder}"
            )
        self.fingerprint = Fingerprint.read(folder / FINGERPRINT)
        if expected is not None:
            self._compared(expected).require(expected, place=folder)
        self._index = read_index(folder / INDEX)
        if self._index.fingerprint != self.fingerprint.digest:
            raise DataError(f"{folder}: {INDEX} does not belong to {FINGERPRINT}")
        for name, size in self._index.shards:
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found:,} bytes"
                raise DataError(
                    f"{path} {state}; expected {size:,}: remove {INDEX} and what is damaged, and "
                    "give the command that made the features again"
                )
        self._numbers = {identity: number for number, identity in enumerate(self._index.ids)}
        self._files: dict[int, MappedShard] = {}

    @property
    def shard_names(self) -> tuple[str, ...]:
        """Names of the files that hold the arrays."""
        return tuple(name for name, _ in self._index.shards)

    def __len__(self) -> int:
        return len(self._index.ids)

    def __contains__(self, identity: str) -> bool:
        return identity in self._numbers

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the utterances, in the order in which they were stored."""
        return self._index.ids

    def shape(self, identity: str) -> tuple[int, int]:
        """Return the shape of an array without reading it. Raises DataError."""
        rows, columns = self._index.shapes[self._number(identity)].tolist()
        return rows, columns

    def values(self, identity: str) -> dict[str, float]:
        """Return the numbers that were stored with an array. Raises DataError."""
        row = self._index.values[self._number(identity)].tolist()
        return dict(zip(self._index.names, row, strict=True))

    @property
    def dtype(self) -> StoredDtype:
        """The dtype that arrays are stored in."""
        found: StoredDtype = self.fingerprint.fields[STORE_FIELD]["dtype"]
        return found

    def read(self, identity: str) -> Tensor:
        """Return an array in the dtype it is stored in, mapped from the file: not to be written to.

        Raises:
            DataError: an id that is not stored, or a shard that does not hold what the index says.
        """
        return from_bits(self.bits(identity))

    def bits(self, identity: str) -> Stored:
        """Return what :meth:`read` does for numpy: float32, or bfloat16 as integers of 16 bits.

        Copying a part of an array of numpy costs a tenth of what it costs with a tensor. Raises
        DataError as :meth:`read` does.
        """
        number = self._number(identity)
        place = int(self._index.shard[number])
        try:
            array = self._file(place)[identity]
        except KeyError as error:
            raise self._damaged(place, f"'{identity}' is not in it") from error
        if list(array.shape) != self._index.shapes[number].tolist():
            raise self._damaged(place, f"'{identity}' has shape {array.shape}")
        return array

    def damaged(self) -> list[str]:
        """Read everything; return the ids of arrays whose checksum is not the stored one.

        Raises:
            DataError: a shard cannot be read at all.
        """
        sums = self._index.checksums.tolist()
        return [name for name, kept in zip(self.ids, sums, strict=True) if self._sum(name) != kept]

    def total(self, name: str) -> float:
        """Return the sum of one of the values over all utterances."""
        return float(self._index.values[:, self._index.names.index(name)].sum())

    def _compared(self, expected: Fingerprint) -> Fingerprint:
        found = dict(self.fingerprint.fields)
        if STORE_FIELD not in expected.fields:
            found.pop(STORE_FIELD, None)
        return Fingerprint(fields=found)

    def _sum(self, identity: str) -> int:
        return checksum(self.read(identity))

    def _number(self, identity: str) -> int:
        try:
            return self._numbers[identity]
        except KeyError:
            near = suggest(identity, self.ids[:1000], noun="ids")
            raise DataError(
                f"{self.folder} has no features of '{identity}' ({len(self):,} utterances); {near}"
            ) from None

    def _file(self, place: int) -> MappedShard:
        if place not in self._files:
            path = self.folder / self._index.shards[place][0]
            try:
                file = MappedShard(path)
            except (OSError, SafetensorError, ValueError) as error:
                raise self._damaged(place, str(error)) from error
            if file.metadata["fingerprint"] != self._index.fingerprint:
                raise self._damaged(place, "its fingerprint is not the folder's")
            self._files[place] = file
        return self._files[place]

    def _damaged(self, place: int, detail: str) -> DataError:
        return DataError(
            f"{self.folder / self._index.shards[place][0]} is damaged: {detail}; remove it and "
            f"{INDEX}, and give the command that made the features again"
        )
