"""``speakers``: which speaker is which class."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.preparation.own_inputs import refuse_own_inputs
from core.checkpoint.atomic import write_text
from core.data.lines import line_groups, parse_row, text_field
from core.data.speaker_mapping import read_mapping
from core.errors import DataError
from core.registry import register


@register("prepare", "speakers")
@dataclass(frozen=True, kw_only=True)
class Speakers:
    """Count the speakers of a pair or utterance manifest and give the frequent ones a class.

    Writes ``{speaker: index}``, most rows first, equal ones by name; beside it the same by index
    (``_reverse.json``) and counts, coverage and the manifest's SHA-256 (``.report.json``).

    Args:
        manifest: with ``speaker`` in every row.
        output: JSON file. One that exists is refused, except with ``extend``.
        top_k: most speakers to give a class, those of an extended mapping included.
        min_samples: fewest rows of a speaker with a class.
        all: give every speaker a class, whatever ``top_k`` and ``min_samples`` say.
        extend: keep every index that ``output`` has and append new speakers behind them. A trained
            classifier stays valid; a renumbered mapping would silently turn it into noise.
    """

    manifest: Path
    output: Path
    top_k: int = 500
    min_samples: int = 10
    all: bool = False
    extend: bool = False

    def __call__(self, say: Callable[[str], None]) -> None:
        """Count and write. Raises DataError on a bad row or an output that exists."""
        refuse_own_inputs(self._outputs(), [self.manifest])
        if self.output.exists() and not self.extend:
            raise DataError(
                f"{self.output} exists; --extend keeps its indices and appends new speakers, or "
                "name another file"
            )
        counts, digest = count_speakers(self.manifest)
        mapping = read_mapping(self.output) if self.output.exists() else {}
        before = len(mapping)
        least = 1 if self.all else self.min_samples
        most = len(counts) + before if self.all else self.top_k
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        for name, count in ordered:
            if len(mapping) >= most or count < least:
                break
            mapping.setdefault(name, len(mapping))
        rows, mapped = counts.total(), sum(counts[name] for name in mapping)
        if not mapping:
            raise DataError(
                f"{self.manifest}: no speaker has min_samples={self.min_samples} rows; the most "
                f"frequent of {len(counts):,} has {ordered[0][1]:,}"
            )
        self._write(mapping, counts, mapped=mapped, digest=digest)
        say(
            f"{self.output}: {len(mapping):,} of {len(counts):,} speakers"
            + (f", {len(mapping) - before:,} new" if before else "")
        )
        say(f"  coverage: {mapped:,} of {rows:,} rows ({mapped / rows:.2%})")
        gone = sum(name not in counts for name in mapping)
        if gone:
            say(f"  {gone:,} speakers of the former mapping have no row here and keep their index")

    def _outputs(self) -> tuple[Path, Path, Path]:
        """Return the paths of the report, of the reverse and of the mapping itself."""
        stem = self.output.with_suffix("")
        report = stem.with_name(stem.name + ".report.json")
        return report, stem.with_name(stem.name + "_reverse.json"), self.output

    def _write(
        self, mapping: dict[str, int], counts: Counter[str], *, mapped: int, digest: str
    ) -> None:
        report = {
            "manifest": str(self.manifest),
            "sha256": digest,
            "rows": counts.total(),
            "mapped_rows": mapped,
            "coverage": mapped / counts.total(),
            "speakers": len(counts),
            "mapped_speakers": len(mapping),
            "top_k": None if self.all else self.top_k,
            "min_samples": 1 if self.all else self.min_samples,
            "counts": {name: counts[name] for name in mapping},
        }
        reverse = {str(index): name for name, index in mapping.items()}
        for path, content in zip(self._outputs(), (report, reverse, mapping), strict=True):
            write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def count_speakers(path: Path) -> tuple[Counter[str], str]:
    """Return rows by speaker and the SHA-256 of a manifest. Raises DataError naming a bad line."""
    if not path.is_file():
        raise DataError(f"manifest {path}: no such file")
    counts: Counter[bytes] = Counter()
    escaped: Counter[str] = Counter()
    digest = hashlib.sha256()
    number = 0
    for lines in line_groups(path):
        digest.update(b"".join(lines))
        found = [text_field(line, b'"speaker"') for line in lines]
        counts.update(name for name in found if name)
        for line, name in zip(lines, found, strict=True):
            number += 1
            if not name:
                escaped[_parsed(path, number, line)] += 1
    if not number:
        raise DataError(f"manifest {path} is empty; expected one JSON object a line")
    named = Counter({name.decode(): count for name, count in counts.items()})
    named.update(escaped)
    return named, digest.hexdigest()


def _parsed(path: Path, number: int, line: bytes) -> str:
    try:
        value = parse_row(line).get("speaker")
        if type(value) is not str or not value:
            raise ValueError(f"speaker is {value!r}; expected a string")
    except ValueError as error:
        raise DataError(f"{path}:{number}: {error}") from error
    return value
