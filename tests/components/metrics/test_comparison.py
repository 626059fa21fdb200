from __future__ import annotations

import json

import numpy as np
import pytest

from components.metrics.report import ErrorReport
from core.errors import DataError


def report(**heard: str) -> ErrorReport:
    made = ErrorReport()
    for name, text in heard.items():
        made.add(id=name, reference="가나 다라", hypothesis=text)
    return made


def test_rates_differences_and_utterances() -> None:
    before = report(a="가나", b="가나 다라", c="하하 하하", d="가나 다라")
    after = report(a="가나 다라", b="가나", c="하하 다라", d="가나 다라")
    found = after.beside(before)
    change = found.changes()["wer"]
    assert (change.baseline, change.rate) == (3 / 8, 2 / 8)
    assert change.difference == pytest.approx(-1 / 8)
    assert (found.improved, found.worsened) == (["a", "c"], ["b"])
    lines = found.lines()
    assert lines[0].split() == [
        "rate",
        "%",
        "un-adapted",
        "adapted",
        "change",
        "95",
        "%",
        "interval",
    ]
    assert lines[1].split()[:4] == ["WER", "37.50", "25.00", "-12.50"]
    assert "  2 utterances better, 1 worse, 1 with as many errors" in lines
    assert lines[-3:] == [
        "    said        가나 다라",
        "    un-adapted  가나 다라",
        "    adapted     가나",
    ]
    figures = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert figures["worsened"] == ["b"]
    assert figures["jamo_error_rate"]["baseline"] == pytest.approx(
        before.jamo.rate if before.jamo else None
    )


def test_the_interval_holds_the_difference_and_is_the_same_each_time() -> None:
    generator = np.random.default_rng(3)
    before, after = ErrorReport(), ErrorReport()
    for number in range(400):
        wrong, kept = generator.random(2)
        reference = "one two three four five"
        before.add(
            id=str(number), reference=reference, hypothesis="one two" if wrong < 0.5 else reference
        )
        after.add(
            id=str(number), reference=reference, hypothesis="one two" if kept < 0.3 else reference
        )
    change = after.beside(before).changes()["wer"]
    low, high = change.interval
    assert low < change.difference < high < 0.0
    # Of the difference of two independent shares of 3/5 errors each.
    deviation = 0.6 * np.sqrt((0.5 * 0.5 + 0.3 * 0.7) / 400)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    assert after.beside(before).changes()["wer"].interval == change.interval


def test_equal_models_do_not_differ() -> None:
    change = report(a="가나").beside(report(a="가나")).changes()["cer"]
    assert (change.difference, change.interval) == (0.0, (0.0, 0.0))


def test_nothing_said_gives_no_rates() -> None:
    made = ErrorReport()
    made.add(id="a", reference="", hypothesis="noise")
    assert made.beside(made).changes() == {}
    assert made.beside(made).lines() == ["nothing was said, so there are no rates to compare"]


def test_jamo_are_told_only_where_there_is_hangul() -> None:
    made = ErrorReport()
    made.add(id="a", reference="one", hypothesis="two")
    assert set(made.beside(made).changes()) == {"wer", "cer", "cer_without_spaces"}


def test_other_references_are_refused() -> None:
    other = ErrorReport()
    other.add(id="a", reference="다른 말", hypothesis="가나")
    with pytest.raises(DataError, match="these differ"):
        report(a="가나").beside(other)
