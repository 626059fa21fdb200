"""Error rates of a test set, with the utterances and words behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from components.metrics.comparison import Comparison
from components.metrics.error_rate import Edit, ErrorCounts
from components.metrics.tables import LABELS, RATE_HEADER, as_figures, rate_row, table
from components.metrics.utterance import UtteranceResult, marked, score
from core.errors import DataError


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
        result = score(id=id, reference=reference, hypothesis=hypothesis, speaker=speaker)
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
    def jamo(self) -> ErrorCounts | None:
        """Letter errors of all utterances; None where no text has a Hangul syllable."""
        if not any(result.hangul for result in self._results.values()):
            return None
        return _total(result.jamo for result in self._results.values())

    def rates(self) -> dict[str, ErrorCounts]:
        """Return all error counts by what they are called in JSON."""
        found = {
            "wer": self.words,
            "cer": self.characters,
            "cer_without_spaces": self.characters_without_spaces,
        }
        return found if self.jamo is None else {**found, "jamo_error_rate": self.jamo}

    @property
    def results(self) -> Mapping[str, UtteranceResult]:
        """What was compared, by utterance id."""
        return MappingProxyType(self._results)

    @property
    def empty_references(self) -> int:
        """Utterances without a word in the reference; what is heard in them is inserted."""
        return sum(result.words.reference_length == 0 for result in self._results.values())

    @property
    def overlong(self) -> list[str]:
        """Ids of the hypotheses more than twice as long as their references: loops, mostly."""
        return [result.id for result in self._results.values() if result.overlong]

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
        return sorted(found.items(), key=lambda item: (-item[1], marked(item[0])))[:count]

    def beside(self, baseline: ErrorReport) -> Comparison:
        """Compare with what another model heard in the same utterances. Raises DataError."""
        return Comparison(results=self.results, baseline=baseline.results)

    def as_dict(self, *, worst: int = 10, confusions: int = 10) -> dict[str, Any]:
        """Return the report for JSON. Rates without a finite value are None."""
        return {
            "utterances": len(self),
            "correct_utterances": self.correct_utterances,
            "empty_references": self.empty_references,
            "overlong_hypotheses": self.overlong,
            **{name: as_figures(counts) for name, counts in self.rates().items()},
            "speakers": {name: as_figures(counts) for name, counts in self.speakers().items()},
            "worst": [
                {
                    "id": result.id,
                    "speaker": result.speaker,
                    "reference": result.reference,
                    "hypothesis": result.hypothesis,
                    **as_figures(result.words),
                }
                for result in self.worst(worst)
            ],
            "confusions": [
                {"reference": edit.reference, "hypothesis": edit.hypothesis, "count": number}
                for edit, number in self.confusions(confusions)
            ],
        }

    def rate_lines(self) -> list[str]:
        """Return the table of error rates, and what weighs on them."""
        rows = [(LABELS[name], *rate_row(counts)) for name, counts in self.rates().items()]
        lines = table(("", *RATE_HEADER), rows)
        if self.empty_references:
            lines.append(f"  {self.empty_references} empty references: words heard are insertions")
        if overlong := self.overlong:
            shown = ", ".join(overlong[:5]) + (" ..." if len(overlong) > 5 else "")
            lines.append(f"  {len(overlong)} hypotheses over twice as long as said: {shown}")
        return lines

    def lines(self, *, worst: int = 10, confusions: int = 10) -> list[str]:
        """Return the report as lines of plain text."""
        correct = f"{len(self)} utterances, {self.correct_utterances} without a word error"
        lines = [correct, "", *self.rate_lines()]
        speakers = self.speakers()
        if speakers:
            rows = [(name, *rate_row(counts)) for name, counts in speakers.items()]
            lines += ["", "Word errors by speaker", *table(("speaker", *RATE_HEADER), rows)]
        frequent = self.confusions(confusions)
        if frequent:
            lines += ["", "Most frequent word errors  (said > heard, - deleted, + inserted)"]
            lines += table(
                ("times", ""), [(str(number), marked(edit)) for edit, number in frequent]
            )
        worst_results = self.worst(worst)
        if worst_results:
            lines += ["", "Worst utterances"]
            for result in worst_results:
                counts = result.words
                rate = f"{counts.errors} of {counts.reference_length} words"
                lines += [f"  {result.id}  {rate}", f"    {result.marked}"]
        return lines


def _total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    return sum(counts, ErrorCounts())
