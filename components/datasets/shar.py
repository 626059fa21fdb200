"""Lhotse Shar: shards of cuts with their audio in tar files, read in sequence."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
from lhotse import CutSet
from lhotse.cut import Cut

from core.errors import DataError
from core.registry import register


@register("dataset", "shar")
class SharSource:
    """A folder of ``cuts.*.jsonl.gz`` with a ``recording.*.tar`` beside each.

    Where there are at least as many shards as readers, each reads shards of its own; else each
    reads all of them and keeps its share.

    Args:
        location: the folder.
    """

    def __init__(self, *, location: str) -> None:
        self.location = location
        self._folder = Path(location).expanduser()
        self._shards: list[dict[str, Path]] = []
        self._digest = ""

    def open(self, cache_dir: Path | None) -> None:
        """List the shards. Raises DataError if a field lacks some."""
        if not self._folder.is_dir():
            raise DataError(f"shar:{self.location}: no such folder; expected cuts.*.jsonl.gz in it")
        by_field: dict[str, dict[str, Path]] = {}
        for path in sorted(self._folder.iterdir()):
            field, _, rest = path.name.partition(".")
            if ".jsonl" in rest or ".tar" in rest:
                by_field.setdefault(field, {})[rest.partition(".")[0]] = path
        cuts = by_field.get("cuts", {})
        if not cuts or "recording" not in by_field:
            raise DataError(
                f"shar:{self.location}: expected cuts.*.jsonl.gz and recording.*.tar, found "
                f"{', '.join(sorted(by_field)) or 'neither'}"
            )
        for field, paths in by_field.items():
            if lacking := sorted(cuts.keys() ^ paths.keys()):
                raise DataError(
                    f"shar:{self.location}: shards of '{field}' and 'cuts' differ: "
                    + ", ".join(lacking[:10])
                )
        self._shards = [
            {field: paths[number] for field, paths in by_field.items()} for number in cuts
        ]
        listing = "\n".join(
            f"{p.name} {p.stat().st_size}" for s in self._shards for p in s.values()
        )
        self._digest = hashlib.sha256(listing.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Digest of names and sizes of all shard files."""
        return self._digest

    def cuts(self, *, epoch: int, shard: int, shards: int, seed: int | None) -> Iterator[Cut]:
        """Yield a part of the cuts, shards in an order drawn from seed and epoch."""
        order = list(range(len(self._shards)))
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(len(order)).tolist()
        if len(order) >= shards:
            for number in order[shard::shards]:
                yield from self._read(self._shards[number])
            return
        for number in order:
            for position, cut in enumerate(self._read(self._shards[number])):
                if position % shards == shard:
                    yield cut

    def texts(self) -> Iterator[str]:
        """Yield the transcripts, without reading audio."""
        for shard in self._shards:
            for line in _lines(shard["cuts"]):
                for supervision in orjson.loads(line).get("supervisions", ()):
                    if supervision.get("text"):
                        yield supervision["text"]

    def _read(self, shard: dict[str, Path]) -> Iterator[Cut]:
        expected = sum(1 for _ in _lines(shard["cuts"]))
        found = 0
        try:
            for cut in CutSet.from_shar(fields={field: [path] for field, path in shard.items()}):
                found += 1
                yield cut
        except (tarfile.ReadError, EOFError, AssertionError, orjson.JSONDecodeError) as error:
            raise DataError(
                f"{shard['recording']}: damaged after {found} of {expected} utterances: {error}"
            ) from error
        if found != expected:
            # Lhotse ends a shard with its shortest field and says nothing.
            raise DataError(
                f"{shard['recording']}: audio of {found} utterances, but {shard['cuts'].name} has "
                f"{expected}"
            )


def _lines(path: Path) -> Iterator[bytes]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip data: {error}") from error
