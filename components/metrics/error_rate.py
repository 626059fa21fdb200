"""Word, character and jamo errors: edit distance with its operations."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import editdistance
import numpy as np
from numpy.typing import NDArray


def words(text: str) -> list[str]:
    """Split text, in Unicode normal form C, at white space.

    Nothing else is normalised: case and punctuation matter.
    """
    return unicodedata.normalize("NFC", text).split()


def characters(text: str, *, spaces: bool = True) -> list[str]:
    """Split text into the code points of its normal form C.

    Args:
        text: a transcript.
        spaces: count one space between words as a character. Korean spacing varies between
            writers, so its character error rate is often given without.
    """
    return list((" " if spaces else "").join(words(text)))


def jamo(text: str) -> list[str]:
    """Split text into characters without spaces, Hangul syllables into their letters.

    A syllable with one wrong letter is wrong as a character; among letters it is a third of one, so
    the rate tells near misses from nonsense. Accented letters of other scripts stay whole.
    """
    letters: list[str] = []
    for character in characters(text, spaces=False):
        whole = not is_syllable(character)
        letters += [character] if whole else unicodedata.normalize("NFD", character)
    return letters


def is_syllable(character: str) -> bool:
    """Return whether a character is a Hangul syllable, which normal form D takes apart."""
    return "\uac00" <= character <= "\ud7a3"


class Edit(NamedTuple):
    """One column of an alignment: a match, or a substitution, deletion or insertion.

    Args:
        reference: unit of the reference; None for an insertion.
        hypothesis: unit of the hypothesis; None for a deletion.
    """

    reference: str | None
    hypothesis: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCounts:
    """Edits that turn references into hypotheses; counts of several utterances add up."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    reference_length: int = 0

    @property
    def errors(self) -> int:
        """All edits: the edit distance."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors for each unit of the reference.

        Above 1 where more is inserted than was said. Without any reference units it is 0 if
        nothing was inserted, else infinite.
        """
        if self.reference_length == 0:
            return float("inf") if self.errors else 0.0
        return self.errors / self.reference_length

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            substitutions=self.substitutions + other.substitutions,
            insertions=self.insertions + other.insertions,
            deletions=self.deletions + other.deletions,
            reference_length=self.reference_length + other.reference_length,
        )


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Return the least number of edits. Faster than :func:`align`, without telling which."""
    return int(editdistance.eval(reference, hypothesis))


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """Return an alignment with the least number of edits, left to right.

    Among those with equally many edits a substitution is preferred to a deletion and a deletion to
    an insertion, seen from the end.
    """
    costs = _costs(reference, hypothesis)
    edits: list[Edit] = []
    row, column = len(reference), len(hypothesis)
    while row or column:
        cost = costs[row, column]
        if row and column:
            differs = reference[row - 1] != hypothesis[column - 1]
            if costs[row - 1, column - 1] + differs == cost:
                row, column = row - 1, column - 1
                edits.append(Edit(reference[row], hypothesis[column]))
                continue
        if row and costs[row - 1, column] + 1 == cost:
            row -= 1
            edits.append(Edit(reference[row], None))
        else:
            column -= 1
            edits.append(Edit(None, hypothesis[column]))
    return edits[::-1]


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Count the errors of one hypothesis, given as words or characters."""
    return tally(align(reference, hypothesis))


def tally(edits: Iterable[Edit]) -> ErrorCounts:
    """Count the edits of an alignment."""
    substitutions = insertions = deletions = length = 0
    for reference, hypothesis in edits:
        length += reference is not None
        if reference is None:
            insertions += 1
        elif hypothesis is None:
            deletions += 1
        else:
            substitutions += reference != hypothesis
    return ErrorCounts(
        substitutions=substitutions,
        insertions=insertions,
        deletions=deletions,
        reference_length=length,
    )


def _costs(reference: Sequence[str], hypothesis: Sequence[str]) -> NDArray[np.int64]:
    """Return the (R + 1, H + 1) distances between all prefixes (Wagner and Fischer 1974)."""
    units: dict[str, int] = {}
    spoken = np.array([units.setdefault(unit, len(units)) for unit in reference], dtype=np.int64)
    heard = np.array([units.setdefault(unit, len(units)) for unit in hypothesis], dtype=np.int64)
    columns = np.arange(len(heard) + 1)
    costs = np.empty((len(spoken) + 1, len(heard) + 1), dtype=np.int64)
    costs[0] = columns
    for row, unit in enumerate(spoken, 1):
        above = costs[row - 1]
        costs[row, 0] = row
        costs[row, 1:] = np.minimum(above[1:] + 1, above[:-1] + (heard != unit))
        # Insertions: least of cost[k] + (column - k) over k <= column.
        costs[row] = np.minimum.accumulate(costs[row] - columns) + columns
    return costs
