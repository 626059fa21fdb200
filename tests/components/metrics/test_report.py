from __future__ import annotations

import json

import pytest

from components.metrics.error_rate import Edit, ErrorCounts
from components.metrics.report import ErrorReport
from core.errors import DataError


@pytest.fixture
def report() -> ErrorReport:
    report = ErrorReport()
    report.add(id="u1", reference="one two three", hypothesis="one two three", speaker="kim")
    report.add(id="u2", reference="four five", hypothesis="for five", speaker="lee")
    report.add(id="u3", reference="four two", hypothesis="for two six six", speaker="lee")
    report.add(id="u4", reference="nine", hypothesis="", speaker=None)
    return report


def test_totals_are_sums_over_utterances(report: ErrorReport) -> None:
    assert report.words == ErrorCounts(
        substitutions=2, insertions=2, deletions=1, reference_length=8
    )
    assert report.characters.reference_length == 13 + 9 + 8 + 4
    assert report.characters_without_spaces.reference_length == 11 + 8 + 7 + 4
    assert (len(report), report.correct_utterances) == (4, 1)


def test_worst_speakers_and_confusions(report: ErrorReport) -> None:
    assert [result.id for result in report.worst()] == ["u3", "u4", "u2"]
    assert [result.id for result in report.worst(1)] == ["u3"]
    assert report.worst()[0].marked == "[four > for] two [+ six] [+ six]"
    assert {name: counts.rate for name, counts in report.speakers().items()} == {
        "lee": 1.0,
        "kim": 0.0,
    }
    assert list(report.speakers()) == ["lee", "kim"]
    assert report.confusions() == [
        (Edit(None, "six"), 2),
        (Edit("four", "for"), 2),
        (Edit("nine", None), 1),
    ]


def test_text(report: ErrorReport) -> None:
    assert report.lines(worst=1) == [
        "4 utterances, 1 without a word error",
        "",
        "                      rate %  errors  sub  ins  del  of",
        "  WER                  62.50       5    2    2    1   8",
        "  CER                  41.18      14    0    8    6  34",
        "  CER without spaces   40.00      12    0    6    6  30",
        "",
        "Word errors by speaker",
        "  speaker  rate %  errors  sub  ins  del  of",
        "  lee      100.00       4    2    2    0   4",
        "  kim        0.00       0    0    0    0   3",
        "",
        "Most frequent word errors  (said > heard, - deleted, + inserted)",
        "  times",
        "      2  [+ six]",
        "      2  [four > for]",
        "      1  [- nine]",
        "",
        "Worst utterances",
        "  u3  3 of 2 words",
        "    [four > for] two [+ six] [+ six]",
    ]


def test_json(report: ErrorReport) -> None:
    report.add(id="u5", reference="", hypothesis="noise", speaker="park")
    value = json.loads(json.dumps(report.as_dict(worst=2), allow_nan=False))
    assert value["wer"]["errors"] == 6
    assert value["wer"]["rate"] == 0.75
    assert value["speakers"]["park"]["rate"] is None
    assert [entry["id"] for entry in value["worst"]] == ["u3", "u5"]
    assert value["confusions"][0] == {"reference": None, "hypothesis": "six", "count": 2}


def test_an_empty_report_and_wide_characters() -> None:
    assert ErrorReport().words.rate == 0.0
    assert len(ErrorReport().lines()) == 6
    korean = ErrorReport()
    korean.add(id="a", reference="안녕", hypothesis="안녕", speaker="김철수")
    korean.add(id="b", reference="안녕", hypothesis="", speaker="lee")
    assert korean.lines()[6] == "  jamo error rate      50.00       6    0    0    6  12"
    table = korean.lines()[9:12]
    assert table == [
        "  speaker  rate %  errors  sub  ins  del  of",
        "  lee      100.00       1    0    0    1   1",
        "  김철수     0.00       0    0    0    0   1",
    ]


def test_an_id_is_scored_once(report: ErrorReport) -> None:
    with pytest.raises(DataError, match="'u1' was scored twice"):
        report.add(id="u1", reference="", hypothesis="")


def test_loops_and_empty_references_are_told() -> None:
    report = ErrorReport()
    report.add(id="loop", reference="네 네", hypothesis="네 네 네 네 네")
    report.add(id="twice", reference="네 네", hypothesis="네 네 네 네")
    report.add(id="silence", reference="", hypothesis="네")
    assert report.overlong == ["loop"]
    assert report.empty_references == 1
    lines = report.lines()
    assert "  1 hypotheses over twice as long as said: loop" in lines
    assert "  1 empty references: words heard are insertions" in lines
    value = report.as_dict()
    assert (value["overlong_hypotheses"], value["empty_references"]) == (["loop"], 1)
    assert value["jamo_error_rate"]["reference_length"] == 8
