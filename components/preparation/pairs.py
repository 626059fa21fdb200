"""``pairs``: from utterances to pairs of a target and a prompt of the same speaker."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from components.preparation.own_inputs import refuse_own_inputs
from core.checkpoint.atomic import naming, sync_directory, write_text
from core.data.lines import BOM, NAMED_LINES, Row, faults_report, line_groups, parse_row
from core.data.npy import SCRATCH, Array
from core.errors import ConfigError, DataError
from core.registry import register

_TEXTS = ("id", "speaker", "audio_path", "text_ids_path", "codes_path", "condition_path")
_LENGTHS = ("text_len", "code_len")
_SHARED = ("id", "audio_path", "emo_vec_path", "language", "emotion")
_PROMPT = (*_SHARED, "condition_path", "condition_len", "duration")
_TARGET = (*_SHARED, "text", "text_ids_path", "text_len", "codes_path", "code_len")


@register("prepare", "pairs")
@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pair each utterance, as a target, with other utterances of its speaker, as prompts.

    Speakers with one utterance are left out, and utterances whose id a line before has. Targets
    keep the order of the manifest, so mel that is made in that order serves the first pairs first.
    A report of all counts is written beside the output. Rows are not held in memory, only where
    they are.

    Args:
        manifest: one utterance a line, with id, speaker, audio_path, text_ids_path, text_len,
            codes_path, code_len, condition_path and, if there, emo_vec_path, text, language,
            emotion (a label), condition_len and duration.
        output: pair manifest; in another folder, relative paths are adapted.
        pairs_per_target: prompts for each target, fewer where a speaker has fewer others.
        seed: of the choice of prompts.
        min_text_len: fewest text tokens of an utterance.
        min_code_len: fewest semantic tokens of an utterance.
        max_pairs: most pairs, drawn from all; 0 for no limit.
        force: replace an output that exists; the manifest itself is never replaced.
    """

    manifest: Path
    output: Path
    pairs_per_target: int = 2
    seed: int = 2025
    min_text_len: int = 1
    min_code_len: int = 1
    max_pairs: int = 0
    force: bool = False

    def __call__(self, say: Callable[[str], None]) -> None:
        """Make the pairs. Raises DataError on bad rows, no pair, or an output that exists."""
        if self.pairs_per_target < 1:
            raise ConfigError(
                f"pairs: pairs_per_target must be at least 1, found {self.pairs_per_target}"
            )
        path = self.output.with_suffix(".report.json")
        refuse_own_inputs([self.output, path], [self.manifest])
        if self.output.exists() and not self.force:
            raise DataError(f"{self.output} exists; --force replaces it")
        found = _scan(self.manifest, min_text=self.min_text_len, min_code=self.min_code_len)
        rng = np.random.default_rng(self.seed)
        targets, prompts = draw_prompts(found.speakers, self.pairs_per_target, rng)
        drawn = targets.size
        if self.max_pairs and drawn > self.max_pairs:
            chosen = np.sort(rng.permutation(drawn)[: self.max_pairs])
            targets, prompts = targets[chosen], prompts[chosen]
        counts = np.bincount(found.speakers) if found.speakers.size else np.zeros(0, dtype=int)
        report = {
            "manifest": str(self.manifest),
            "utterances": found.lines,
            "too_short": found.lines - found.speakers.size - found.repeated,
            "repeated_ids": found.repeated,
            "repeated_lines": found.repetitions,
            "speakers": int((counts > 0).sum()),
            "speakers_with_one_utterance": int((counts == 1).sum()),
            "targets": int(np.unique(targets).size),
            "pairs": int(targets.size),
            "pairs_over_the_limit": int(drawn - targets.size),
            "pairs_per_target": self.pairs_per_target,
            "min_text_len": self.min_text_len,
            "min_code_len": self.min_code_len,
            "max_pairs": self.max_pairs,
            "seed": self.seed,
        }
        if not targets.size:
            raise DataError(
                f"{self.manifest}: no pairs: no speaker has two utterances. Found: "
                f"{json.dumps(report)}"
            )
        with naming(self.output):
            self._write(found, targets, prompts)
        write_text(path, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        say(
            f"{self.output}: {report['pairs']:,} pairs of {report['targets']:,} targets, "
            f"{report['speakers']:,} speakers; left out: {report['too_short']:,} utterances too "
            f"short, {report['speakers_with_one_utterance']:,} speakers with one utterance"
        )
        if found.repeated:
            say(f"  left out, repeated id: {found.repeated:,}, such as {found.repetitions[0]}")
        say(f"  report: {path}")

    def _write(self, found: _Utterances, targets: Array, prompts: Array) -> None:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        partial = self.output.with_name(f"{SCRATCH}{self.output.name}-{os.getpid()}")
        try:
            with partial.open("wb", buffering=1 << 20) as file:
                for row in self._rows(found, targets, prompts):
                    file.write(orjson.dumps(row) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.output)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(self.output.parent)

    def _rows(self, found: _Utterances, targets: Array, prompts: Array) -> Iterator[Row]:
        """Yield pair rows; a target that comes several times in a row is read once."""
        moved = os.path.relpath(self.manifest.parent, self.output.parent)
        folder = "" if moved == "." else moved
        last, target = -1, Row()
        with self.manifest.open("rb") as file:
            for number, other in zip(targets.tolist(), prompts.tolist(), strict=True):
                if number != last:
                    last, target = number, found.read(file.fileno(), number)
                prompt = found.read(file.fileno(), other)
                yield {
                    "id": f"{target['id']}__{prompt['id']}",
                    "speaker": target["speaker"],
                    **_renamed("prompt", prompt, _PROMPT, folder),
                    **_renamed("target", target, _TARGET, folder),
                }


@dataclass(frozen=True, kw_only=True)
class _Utterances:
    """Utterances that are long enough, by number: where they are, and whose.

    Args:
        begins: byte at which each begins.
        sizes: bytes of each.
        speakers: number of the speaker of each.
        lines: of the manifest.
        repeated: utterances long enough that are left out, for a line before has their id.
        repetitions: the first of these, each with both lines.
    """

    begins: Array
    sizes: Array
    speakers: Array
    lines: int
    repeated: int
    repetitions: list[str]

    def read(self, descriptor: int, number: int) -> Row:
        line = os.pread(descriptor, int(self.sizes[number]), int(self.begins[number]))
        row: Row = orjson.loads(line)
        return row


def draw_prompts(speakers: Array, per_target: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return targets and prompts of all pairs, by utterance number, targets ascending.

    The prompts of a target are different utterances of its speaker, never the target, each such
    choice equally likely. What is drawn is the j-th of those left: after each draw, numbers at or
    above an earlier one move up past it, the smallest earlier one first.

    Args:
        speakers: (N,) speaker of each utterance.
        per_target: prompts of a target; all others of the speaker where there are fewer.
        rng: of the draws.
    """
    order = np.argsort(speakers, kind="stable")
    _, first, counts = np.unique(speakers[order], return_index=True, return_counts=True)
    size = np.repeat(counts, counts)
    begin = np.repeat(first, counts)
    inside = np.arange(order.size) - begin  # place of each target among its speaker's
    taken = inside[:, None]
    for draw in range(per_target):
        left = size - 1 - draw
        picked = np.floor(rng.random(order.size) * np.maximum(left, 1)).astype(np.int64)
        for earlier in np.sort(taken, axis=1).T:
            picked += picked >= earlier
        # A speaker without others left gives none: a number that no utterance has.
        picked = np.where(left > 0, picked, size + draw)
        taken = np.column_stack([taken, picked])
    picked = taken[:, 1:]
    valid = picked < size[:, None]
    prompt = order[np.where(valid, begin[:, None] + picked, 0)]
    by_target = np.argsort(order, kind="stable")
    valid, prompt = valid[by_target], prompt[by_target]
    return np.repeat(np.arange(order.size), valid.sum(axis=1)), prompt[valid]


def _scan(path: Path, *, min_text: int, min_code: int) -> _Utterances:
    """Read and check every row; keep where the long ones are. Raises DataError naming bad ones."""
    if not path.is_file():
        raise DataError(f"manifest {path}: no such file")
    begins, sizes, speakers = array("q"), array("i"), array("i")
    numbers, keys = array("q"), array("q")
    places: dict[str, int] = {}
    faults: list[str] = []
    count = number = 0
    with path.open("rb") as file:
        position = len(BOM) if file.read(len(BOM)) == BOM else 0
    for lines in line_groups(path):
        for line in lines:
            number += 1
            begin, position = position, position + len(line)
            try:
                row = parse_row(line)
                _check(row)
            except ValueError as error:
                count += 1
                if len(faults) < NAMED_LINES:
                    faults.append(f"{path}:{number}: {error}")
                continue
            if row["text_len"] >= min_text and row["code_len"] >= min_code:
                begins.append(begin)
                sizes.append(len(line))
                speakers.append(places.setdefault(row["speaker"], len(places)))
                numbers.append(number)
                keys.append(hash(row["id"]))  # 8 bytes an id, where strings would not fit
    if count:
        raise DataError(faults_report(path, faults, count, number))
    kept, repetitions = _first_of_each(np.frombuffer(keys, dtype=np.int64))
    lines_of = np.frombuffer(numbers, dtype=np.int64)
    return _Utterances(
        begins=np.frombuffer(begins, dtype=np.int64)[kept],
        sizes=np.frombuffer(sizes, dtype=np.int32)[kept],
        speakers=np.frombuffer(speakers, dtype=np.int32)[kept],
        lines=number,
        repeated=len(keys) - kept.size,
        repetitions=[
            f"{path}:{lines_of[again]}: the id is that of line {lines_of[first]}"
            for again, first in repetitions
        ],
    )


def _first_of_each(keys: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Return the places of the first of equal keys, ascending, and some of those of others.

    Among ten million ids the chance that any two have one hash is below one in 100,000, and one
    utterance would be left out.

    Args:
        keys: (N,) hashes of ids.

    Returns:
        Places of keys that none before equals; and for the first others, as many as a report
        names, their place and that of the first that they equal.
    """
    _, first = np.unique(keys, return_index=True)
    others = np.ones(keys.size, dtype=bool)
    others[first] = False
    named = np.flatnonzero(others)[:NAMED_LINES].tolist()
    return np.sort(first), [(place, int(np.argmax(keys == keys[place]))) for place in named]


def _check(row: Row) -> None:
    if "prompt_id" in row:
        raise ValueError("a pair already; expected an utterance")
    for field in _TEXTS:
        if type(row.get(field)) is not str or not row[field]:
            raise ValueError(f"{field} is {row.get(field)!r}; expected a string")
    for field in _LENGTHS:
        if type(row.get(field)) is not int or row[field] < 0:
            raise ValueError(f"{field} is {row.get(field)!r}; expected a number of tokens")


def _renamed(side: str, row: Row, fields: tuple[str, ...], folder: str) -> dict[str, Any]:
    """Return fields of an utterance under the names that they have in a pair."""
    found = {}
    for field in fields:
        value = row.get(field)
        if value is not None:
            if folder and field.endswith("_path"):
                value = os.path.normpath(os.path.join(folder, value))
            found[f"{side}_{field}"] = value
    return found
