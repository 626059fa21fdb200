"""Error rates as written and in the normal form of a text, side by side."""

from __future__ import annotations

from typing import Any

from components.metrics.comparison import Comparison
from components.metrics.report import ErrorReport
from core.contracts.components import TextForm


class FormsReport:
    """Scores each utterance twice: its texts as they are, and both in normal form.

    How much of a rate is spelling, punctuation and spacing shows only beside the other; and a rate
    in normal form means nothing without the form, so its fingerprint stands with it.

    A reference that the form cannot bring to a normal form with certainty, such as half a dual
    transcription, is scored as written only.

    Args:
        form: of transcripts; None to score them as written alone.
    """

    def __init__(self, *, form: TextForm | None) -> None:
        self.form = form
        self.written = ErrorReport()
        self.normal = ErrorReport()
        self.uncertain: dict[str, str] = {}
        """By id, why a reference has no normal form."""

    def add(self, *, id: str, reference: str, hypothesis: str, speaker: str | None = None) -> None:
        """Compare one hypothesis with its reference. Raises DataError if the id was seen before."""
        self.written.add(id=id, reference=reference, hypothesis=hypothesis, speaker=speaker)
        if self.form is None:
            return
        if fault := self.form.fault(reference):
            self.uncertain[id] = fault
            return
        self.normal.add(
            id=id,
            reference=self.form(reference),
            hypothesis=self.form(hypothesis),
            speaker=speaker,
        )

    @property
    def main(self) -> ErrorReport:
        """The report that counts: in normal form where there is one."""
        return self.written if self.form is None else self.normal

    def beside(self, baseline: FormsReport) -> FormsComparison:
        """Compare with what another model heard in the same utterances. Raises DataError."""
        return FormsComparison(report=self, baseline=baseline)

    def as_dict(self, *, worst: int = 10) -> dict[str, Any]:
        """Return the report for JSON: that of the normal form, and the rates as written in it."""
        if self.form is None:
            return {**self.written.as_dict(worst=worst), "text_form": None}
        return {
            **self.normal.as_dict(worst=worst),
            "text_form": self.form.fingerprint,
            "without_normal_form": self.uncertain,
            "as_written": self.written.as_dict(worst=worst),
        }

    def lines(self, *, worst: int = 10) -> list[str]:
        """Return the report as lines of plain text."""
        if self.form is None:
            return ["texts as written: the task has no normal form", *self.main.lines(worst=worst)]
        lines = [f"in the normal form of {self.form.fingerprint}", *self.main.lines(worst=worst)]
        lines += [f"  only as written: {name}: {fault}" for name, fault in self.uncertain.items()]
        return [*lines, "", "As written", *self.written.rate_lines()]


class FormsComparison:
    """What changed from a baseline to another model, in both forms.

    Args:
        report: of the model in question.
        baseline: of the other, on the same utterances.

    Raises:
        DataError: the utterances are not the same.
    """

    def __init__(self, *, report: FormsReport, baseline: FormsReport) -> None:
        self._form = report.form
        self._main: Comparison = report.main.beside(baseline.main)
        self._written: Comparison = report.written.beside(baseline.written)

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        if self._form is None:
            return self._main.as_dict()
        return {**self._main.as_dict(), "as_written": self._written.as_dict()}

    def lines(self, *, worst: int = 10) -> list[str]:
        """Return the comparison as lines of plain text."""
        if self._form is None:
            return self._main.lines(worst=worst)
        written = self._written.lines(worst=0)
        return ["In normal form", *self._main.lines(worst=worst), "", "As written", *written]
