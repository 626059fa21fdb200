"""One utterance: what was said beside what was heard."""

from __future__ import annotations

from dataclasses import dataclass

from components.metrics.error_rate import (
    Edit,
    ErrorCounts,
    align,
    characters,
    count_errors,
    is_syllable,
    jamo,
    tally,
    words,
)

OVERLONG = 2
"""Times the reference's characters, beyond which a hypothesis is likely to repeat itself."""


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
        jamo: letter errors, Hangul syllables taken apart, spaces left out.
        hangul: whether there is a Hangul syllable in either text.
    """

    id: str
    reference: str
    hypothesis: str
    speaker: str | None
    edits: tuple[Edit, ...]
    words: ErrorCounts
    characters: ErrorCounts
    characters_without_spaces: ErrorCounts
    jamo: ErrorCounts
    hangul: bool

    @property
    def overlong(self) -> bool:
        """Whether more than twice as much was heard as was said; never for an empty reference."""
        counts = self.characters_without_spaces
        heard = counts.reference_length + counts.insertions - counts.deletions
        return 0 < OVERLONG * counts.reference_length < heard

    @property
    def marked(self) -> str:
        """The words with what went wrong in brackets: ``the [cat > cap] sat [- down] [+ on]``."""
        return " ".join(marked(edit) for edit in self.edits)

    def rates(self) -> dict[str, ErrorCounts]:
        """Return all error counts by what they are called in JSON."""
        return {
            "wer": self.words,
            "cer": self.characters,
            "cer_without_spaces": self.characters_without_spaces,
            "jamo_error_rate": self.jamo,
        }


def score(*, id: str, reference: str, hypothesis: str, speaker: str | None) -> UtteranceResult:
    """Count the errors of one hypothesis."""
    edits = tuple(align(words(reference), words(hypothesis)))
    without_spaces = count_errors(
        characters(reference, spaces=False), characters(hypothesis, spaces=False)
    )
    letters = jamo(reference), jamo(hypothesis)
    hangul = any(map(is_syllable, (*characters(reference), *characters(hypothesis))))
    return UtteranceResult(
        id=id,
        reference=reference,
        hypothesis=hypothesis,
        speaker=speaker,
        edits=edits,
        words=tally(edits),
        characters=count_errors(characters(reference), characters(hypothesis)),
        characters_without_spaces=without_spaces,
        jamo=count_errors(*letters) if hangul else without_spaces,
        hangul=hangul,
    )


def marked(edit: Edit) -> str:
    """Return a word, or in brackets what became of it."""
    reference, hypothesis = edit
    if reference == hypothesis:
        return str(reference)
    if reference is None:
        return f"[+ {hypothesis}]"
    if hypothesis is None:
        return f"[- {reference}]"
    return f"[{reference} > {hypothesis}]"
