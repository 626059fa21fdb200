from __future__ import annotations

import json

import pytest

from components.metrics.forms import FormsReport
from components.text.normalizer import TextNormalizer
from core.errors import DataError

FORM = TextNormalizer(language="ko", kspon="orthographic")
SPOKEN = {
    "a": ("혈압이 120/80 이에요.", "혈압이 120/80 이에요"),
    "b": ("(웃음) 네", "네"),
    "c": ("약을 (3알)/(세 알) 드세요", "약을 3알 드세요"),
}


def report(form: TextNormalizer | None = FORM) -> FormsReport:
    made = FormsReport(form=form)
    for name, (reference, hypothesis) in SPOKEN.items():
        made.add(id=name, reference=reference, hypothesis=hypothesis)
    return made


def test_spelling_alone_is_no_error_in_normal_form() -> None:
    made = report()
    assert made.main.words.errors == 0
    assert made.written.words.errors == 4
    value = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert value["text_form"] == FORM.fingerprint
    assert value["wer"]["errors"] == 0
    assert value["as_written"]["wer"]["errors"] == 4
    lines = made.lines()
    assert lines[0] == f"in the normal form of {FORM.fingerprint}"
    assert lines.index("As written") > lines.index("3 utterances, 3 without a word error")


def test_without_a_form_the_texts_count_as_written() -> None:
    made = report(None)
    assert made.main is made.written
    assert made.as_dict()["text_form"] is None
    assert made.lines()[0] == "texts as written: the task has no normal form"


def test_half_a_dual_transcription_is_scored_as_written_only() -> None:
    made = report()
    made.add(id="d", reference="(백 원)/백 원", hypothesis="백 원")
    assert len(made.written) == 4
    assert len(made.main) == 3
    assert made.as_dict()["without_normal_form"] == {"d": "half a dual transcription"}
    assert "  only as written: d: half a dual transcription" in made.lines()


def test_a_reference_of_notes_alone_is_empty_and_what_is_heard_there_is_inserted() -> None:
    made = FormsReport(form=FORM)
    made.add(id="a", reference="[기침]", hypothesis="네 네")
    assert made.main.empty_references == 1
    assert made.as_dict()["wer"]["rate"] is None
    assert made.main.words.insertions == 2
    assert any("1 empty references" in line for line in made.lines())


def test_both_forms_are_compared_with_the_baseline() -> None:
    before = FormsReport(form=FORM)
    for name, (reference, _) in SPOKEN.items():
        before.add(id=name, reference=reference, hypothesis="아니요.")
    found = report().beside(before)
    lines = found.lines()
    assert lines[0] == "In normal form"
    assert "As written" in lines
    figures = found.as_dict()
    assert figures["wer"]["rate"] == 0.0
    assert figures["as_written"]["wer"]["rate"] > 0.0
    assert figures["improved"] == 3


def test_other_utterances_are_not_compared() -> None:
    with pytest.raises(DataError, match="the same utterances"):
        report().beside(FormsReport(form=FORM))
