from __future__ import annotations

import math

import editdistance
from hypothesis import given
from hypothesis import strategies as st

from components.metrics.edits import Edit, ErrorCounts, align, count_errors, edit_distance
from components.metrics.error_rate import words

UNITS = st.lists(st.sampled_from(["a", "b", "c", "가", "나"]), max_size=12)


@given(UNITS, UNITS)
def test_alignment_is_valid_and_as_short_as_the_edit_distance(
    reference: list[str], hypothesis: list[str]
) -> None:
    edits = align(reference, hypothesis)
    assert [edit.reference for edit in edits if edit.reference is not None] == reference
    assert [edit.hypothesis for edit in edits if edit.hypothesis is not None] == hypothesis
    assert Edit(None, None) not in edits
    counts = count_errors(edits)
    assert counts.errors == editdistance.eval(reference, hypothesis)
    assert counts.errors == edit_distance(reference, hypothesis)
    assert counts.reference_length == len(reference)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)


def test_tells_the_kinds_of_edits_apart() -> None:
    edits = align(words("the cat sat down"), words("the cap sat on a"))
    assert edits[:3] == [Edit("the", "the"), Edit("cat", "cap"), Edit("sat", "sat")]
    assert count_errors(edits) == ErrorCounts(
        substitutions=2, insertions=1, deletions=0, reference_length=4
    )
    assert align(["a"], []) == [Edit("a", None)]
    assert align([], ["a"]) == [Edit(None, "a")]
    assert align([], []) == []


def test_counts_add_up_and_rates_are_defined_without_reference() -> None:
    first = ErrorCounts(substitutions=1, insertions=2, deletions=3, reference_length=10)
    total = first + ErrorCounts(insertions=1, reference_length=4)
    assert (total.errors, total.reference_length, total.rate) == (7, 14, 0.5)
    assert ErrorCounts().rate == 0.0
    assert ErrorCounts(insertions=1).rate == math.inf
