"""Which speaker is which class: a JSON object from speaker to index, and how much it covers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.checkpoint.atomic import write_text
from core.contracts import UNMAPPED, RunContext
from core.data.npy import Indices
from core.data.pairs_index import PairIndex
from core.errors import DataError

SPEAKERS = "speakers.json"
"""The mapping among the assets of a run."""

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many rows and speakers of a manifest a mapping has a class for."""

    rows: int
    of_rows: int
    speakers: int
    of_speakers: int

    def __str__(self) -> str:
        share = self.rows / self.of_rows if self.of_rows else 0.0
        return (
            f"{self.rows:,} of {self.of_rows:,} rows ({share:.2%}), {self.speakers:,} of "
            f"{self.of_speakers:,} speakers have a class"
        )


def read_mapping(path: Path) -> dict[str, int]:
    """Read a mapping. Raises DataError unless its indices are 0 to n - 1, each once."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"speaker mapping {path}: no such file; make it with "
            f"python -m core.prepare speakers MANIFEST {path}"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"speaker mapping {path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"speaker mapping {path}: expected {{speaker: index}}, not empty")
    if any(type(index) is not int for index in found.values()):
        bad = next(name for name, index in found.items() if type(index) is not int)
        raise DataError(f"speaker mapping {path}: '{bad}' has {found[bad]!r}; expected an index")
    if sorted(found.values()) != list(range(len(found))):
        raise DataError(
            f"speaker mapping {path}: {len(found)} speakers; expected the indices 0 to "
            f"{len(found) - 1}, each once"
        )
    return found


def run_mapping(source: Path | None, context: RunContext) -> tuple[dict[str, int], list[str]]:
    """Return the mapping of a run, which its assets keep from the first start on.

    Args:
        source: the mapping that the configuration names; None for no classes, unless the run
            has some.
        context: says where the assets are.

    Returns:
        The mapping, empty if there is none, and lines for the run header.

    Raises:
        DataError: the mapping is damaged, or gives a speaker of the run another class.
    """
    kept = context.assets / SPEAKERS
    if not kept.is_file():
        mapping = read_mapping(source) if source is not None else {}
        if mapping and context.rank == 0 and context.training:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, json.dumps(mapping, ensure_ascii=False, indent=0) + "\n")
        return mapping, []
    mapping = read_mapping(kept)
    if source is None or not context.training:
        return mapping, []
    named = read_mapping(source)
    moved = [name for name, index in mapping.items() if named.get(name) != index]
    if moved:
        raise DataError(
            f"speaker mapping {source} is not that of this run: '{moved[0]}' has "
            f"{named.get(moved[0])} and had {mapping[moved[0]]}, with {len(moved) - 1} more. "
            "A trained classifier would take one speaker for another. Make mappings with --extend, "
            "or start another run with --init-from"
        )
    extra = len(named) - len(mapping)
    if not extra:
        return mapping, []
    return mapping, [
        f"speakers of {source} that the classifier of this run does not have, and that stay "
        f"without a class: {extra:,}"
    ]


def classes(index: PairIndex, mapping: Mapping[str, int]) -> Indices:
    """Return the class of each speaker of an index, ``UNMAPPED`` where it has none."""
    found = (mapping.get(name, UNMAPPED) for name in index.names())
    return np.fromiter(found, dtype=np.int64)


def coverage(index: PairIndex, found: Indices, rows: int) -> Coverage:
    """Return how much of the first ``rows`` rows has a class."""
    counts = np.bincount(index.speakers[:rows], minlength=len(found))
    mapped = found != UNMAPPED
    return Coverage(
        rows=int(counts[mapped].sum()),
        of_rows=rows,
        speakers=int((counts[mapped] > 0).sum()),
        of_speakers=int((counts > 0).sum()),
    )


def refuse_no_hits(index: PairIndex, mapping: Mapping[str, int], rows: int, source: str) -> None:
    """Refuse a mapping that knows no speaker of the first ``rows`` rows. Raises DataError."""
    found = coverage(index, classes(index, mapping), rows)
    if found.rows:
        return
    names = index.names()
    used = [names[place] for place in dict.fromkeys(index.speakers[: min(rows, 10000)].tolist())]
    raise DataError(
        f"no row of {index.path} has a speaker of {source}: 0 of {rows:,} rows, 0 of "
        f"{found.of_speakers:,} speakers; the mapping has {len(mapping):,}. A speaker classifier "
        f"would learn nothing and its accuracy stay 0. The manifest has {_examples(used)}; the "
        f"mapping has {_examples(list(mapping))}. Make it from this manifest with python -m "
        f"core.prepare speakers {index.path} OUTPUT"
    )


def _examples(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_EXAMPLES])
    return shown + (", ..." if len(names) > _EXAMPLES else "")
