"""Error rates of a test set, with the utterances and words behind them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from components.metrics.error_rate import (
    Edit,
    ErrorCounts,
    align,
    characters,
    count_errors,
    tally,
    words,
)
from core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceResult:
    """One utterance with its errors.

    Args:
        id: of the utterance.
        reference: what was said.
        hypothesis: what was heard.
        speaker: None where unknown.
        edits: alignment of the words.
        words: word errors.
        characters: character errors, spaces included.
        characters_without_spaces: character errors, spaces left out.
    """

    id: str
    reference: str
    hypothesis: str
    speaker: str | None
    edits: tuple[Edit, ...]
    words: ErrorCounts
    characters: ErrorCounts
    characters_without_spaces: ErrorCounts

    @property
    def marked(self) -> str:
        """The words with what went wrong in brackets: ``the [cat > cap] sat [- down] [+ on]``."""
        return " ".join(_mark(edit) for edit in self.edits)


class ErrorReport:
    """Collects utterances and tells their error rates, worst utterances and confusions.

    Rates are errors over reference length, both summed over utterances, as everywhere in the field;
    they are not averages of rates.
    """

    def __init__(self) -> None:
        self._results: dict[str, UtteranceResult] = {}

    def __len__(self) -> int:
        return len(self._results)

    def add(
        self, *, id: str, reference: str, hypothesis: str, speaker: str | None = None
    ) -> UtteranceResult:
        """Compare one hypothesis with its reference. Raises DataError if the id was seen before."""
        if id in self._results:
            raise DataError(f"utterance '{id}' was scored twice; ids must be unique in a test set")
        edits = tuple(align(words(reference), words(hypothesis)))
        result = UtteranceResult(
            id=id,
            reference=reference,
            hypothesis=hypothesis,
            speaker=speaker,
            edits=edits,
            words=tally(edits),
            characters=count_errors(characters(reference), characters(hypothesis)),
            characters_without_spaces=count_errors(
                characters(reference, spaces=False), characters(hypothesis, spaces=False)
            ),
        )
        self._results[id] = result
        return result

    @property
    def words(self) -> ErrorCounts:
        """Word errors of all utterances."""
        return _total(result.words for result in self._results.values())

    @property
    def characters(self) -> ErrorCounts:
        """Character errors of all utterances, spaces included."""
        return _total(result.characters for result in self._results.values())

    @property
    def characters_without_spaces(self) -> ErrorCounts:
        """Character errors of all utterances, spaces left out."""
        return _total(result.characters_without_spaces for result in self._results.values())

    @property
    def correct_utterances(self) -> int:
        """Utterances without a word error."""
        return sum(result.words.errors == 0 for result in self._results.values())

    def worst(self, count: int = 10) -> list[UtteranceResult]:
        """Return up to ``count`` utterances with word errors: most errors first, then by rate."""
        wrong = [result for result in self._results.values() if result.words.errors]
        wrong.sort(key=lambda result: (-result.words.errors, -result.words.rate, result.id))
        return wrong[:count]

    def speakers(self) -> dict[str, ErrorCounts]:
        """Return the word errors of each known speaker, highest rate first."""
        totals: dict[str, ErrorCounts] = {}
        for result in self._results.values():
            if result.speaker is not None:
                totals[result.speaker] = totals.get(result.speaker, ErrorCounts()) + result.words
        return dict(sorted(totals.items(), key=lambda item: (-item[1].rate, item[0])))

    def confusions(self, count: int = 10) -> list[tuple[Edit, int]]:
        """Return the most frequent word substitutions, deletions and insertions."""
        found = Counter(
            edit
            for result in self._results.values()
            for edit in result.edits
            if edit.reference != edit.hypothesis
        )
        return sorted(found.items(), key=lambda item: (-item[1], _mark(item[0])))[:count]

    def as_dict(self, *, worst: int = 10, confusions: int = 10) -> dict[str, Any]:
        """Return the report for JSON. Rates without a finite value are None."""
        return {
            "utterances": len(self),
            "correct_utterances": self.correct_utterances,
            "wer": _as_dict(self.words),
            "cer": _as_dict(self.characters),
            "cer_without_spaces": _as_dict(self.characters_without_spaces),
            "speakers": {name: _as_dict(counts) for name, counts in self.speakers().items()},
            "worst": [
                {
                    "id": result.id,
                    "speaker": result.speaker,
                    "reference": result.reference,
                    "hypothesis": result.hypothesis,
                    **_as_dict(result.words),
                }
                for result in self.worst(worst)
            ],
            "confusions": [
                {"reference": edit.reference, "hypothesis": edit.hypothesis, "count": number}
                for edit, number in self.confusions(confusions)
            ],
        }

    def lines(self, *, worst: int = 10, confusions: int = 10) -> list[str]:
        """Return the report as lines of plain text."""
        rates = [
            ("WER", self.words),
            ("CER", self.characters),
            ("CER without spaces", self.characters_without_spaces),
        ]
        lines = [
            f"{len(self)} utterances, {self.correct_utterances} without a word error",
            "",
            *_table(("", *_HEADER), [(name, *_row(counts)) for name, counts in rates]),
        ]
        speakers = self.speakers()
        if speakers:
            rows = [(name, *_row(counts)) for name, counts in speakers.items()]
            lines += ["", "Word errors by speaker", *_table(("speaker", *_HEADER), rows)]
        frequent = self.confusions(confusions)
        if frequent:
            lines += ["", "Most frequent word errors  (said > heard, - deleted, + inserted)"]
            lines += _table(
                ("times", ""), [(str(number), _mark(edit)) for edit, number in frequent]
            )
        worst_results = self.worst(worst)
        if worst_results:
            lines += ["", "Worst utterances"]
            for result in worst_results:
                counts = result.words
                rate = f"{counts.errors} of {counts.reference_length} words"
                lines += [f"  {result.id}  {rate}", f"    {result.marked}"]
        return lines


_HEADER = ("rate %", "errors", "sub", "ins", "del", "of")


def _total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    return sum(counts, ErrorCounts())


def _mark(edit: Edit) -> str:
    reference, hypothesis = edit
    if reference == hypothesis:
        return str(reference)
    if reference is None:
        return f"[+ {hypothesis}]"
    if hypothesis is None:
        return f"[- {reference}]"
    return f"[{reference} > {hypothesis}]"


def _as_dict(counts: ErrorCounts) -> dict[str, Any]:
    return {
        "rate": counts.rate if math.isfinite(counts.rate) else None,
        "errors": counts.errors,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
        "reference_length": counts.reference_length,
    }


def _row(counts: ErrorCounts) -> tuple[str, ...]:
    numbers = (counts.errors, counts.substitutions, counts.insertions, counts.deletions)
    return (f"{100 * counts.rate:.2f}", *map(str, numbers), str(counts.reference_length))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align numbers to the right and other text to the left; wide characters take two cells."""
    table = [header, *rows]
    widths = [max(cell_len(line[column]) for line in table) for column in range(len(header))]
    lines = []
    for line in table:
        cells = []
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            padding = " " * (width - cell_len(cell))
            number = rows[0][column].replace(".", "").isdigit() or rows[0][column] == "inf"
            cells.append(padding + cell if number else cell + padding)
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
