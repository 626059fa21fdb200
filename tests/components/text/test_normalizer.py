from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.text.normalizer import TextNormalizer
from core.contracts.components import TextForm
from core.errors import DataError

MARKUP = st.text("blnou한글3.,/()[]*+ -%'~:mgL℃\u0301\u0338=İA\u200b", max_size=24)
TEXT = st.one_of(MARKUP, st.text(max_size=24))
OPTIONS = [
    dict(zip(("language", "brackets", "kspon", "punctuation", "symbols", "lowercase"), o, strict=1))
    for o in itertools.product(
        ("ko", "en"),
        ("drop", "unwrap", "keep"),
        (None, "orthographic", "phonetic"),
        ("drop", "keep"),
        ("drop", "keep"),
        (False, True),
    )
]


@example("3/%", {"kspon": "orthographic", "punctuation": "keep", "symbols": "drop"})
@example("(A)/(B)/(C)", {"kspon": "orthographic"})
@given(TEXT, st.sampled_from(OPTIONS))
def test_a_normal_form_stays_what_it_is(text: str, options: dict[str, Any]) -> None:
    normalizer = TextNormalizer(**options)
    found = normalizer(text)
    assert normalizer(found) == found
    assert found == " ".join(found.split())
    assert unicodedata.is_normalized("NFC", found)


@given(TEXT, st.sampled_from(OPTIONS))
def test_the_form_of_the_input_does_not_matter(text: str, options: dict[str, Any]) -> None:
    normalizer = TextNormalizer(**options)
    assert normalizer(unicodedata.normalize("NFD", text)) == normalizer(text)


@given(st.text("0123456789.,/ 가나%", max_size=20))
def test_digits_are_neither_made_nor_lost(text: str) -> None:
    found = TextNormalizer()(text)
    assert [c for c in found if c.isdecimal()] == [c for c in text if c.isdecimal()]


@pytest.mark.parametrize(
    ("text", "orthographic", "phonetic"),
    [
        (
            "b/ 아/ 그 (70%)/(칠 십 프로)에서 n/.",
            "아 그 70%에서",
            "아 그 칠 십 프로에서",
        ),
        ("o/ (3.5kg)/(삼 점 오 킬로)가+ 됐어*, 네?", "3.5kg가 됐어 네", "삼 점 오 킬로가 됐어 네"),
        ("u/ 뭐/ [박수] (웃음) 됐다 l/", "뭐 됐다", "뭐 됐다"),
        ("(mg/dL)/(밀리그램 퍼 데시리터)", "mg/dL", "밀리그램 퍼 데시리터"),
    ],
)
def test_kspon_speech(text: str, orthographic: str, phonetic: str) -> None:
    assert TextNormalizer(kspon="orthographic")(text) == orthographic
    assert TextNormalizer(kspon="phonetic")(text) == phonetic


def test_hangul_letters_become_syllables() -> None:
    apart = unicodedata.normalize("NFD", "안녕하세요 여러분")
    assert len(apart) > len("안녕하세요 여러분")
    assert TextNormalizer()(apart) == "안녕하세요 여러분"


def test_compatibility_characters_are_left_alone() -> None:
    assert TextNormalizer()("５㎎ ㅋㅋ ℃") == "５㎎ ㅋㅋ ℃"


def test_numbers_are_not_spelt_out() -> None:
    assert TextNormalizer()("1,004원 3.5% 천사") == "1,004원 3.5% 천사"


def test_brackets() -> None:
    text = "가 (나 [다]) 라 （마） (바"
    keep = {"punctuation": "keep"}
    assert TextNormalizer(brackets="drop", **keep)(text) == "가 라 (바"  # type: ignore[arg-type]
    assert TextNormalizer(brackets="unwrap")(text) == "가 나 다 라 마 바"
    assert TextNormalizer(brackets="keep", **keep)(text) == text  # type: ignore[arg-type]


def test_options_of_punctuation_symbols_and_case() -> None:
    text = "Don't, 50% OK?"
    assert TextNormalizer(punctuation="keep")(text) == text
    assert TextNormalizer(language="en", lowercase=True)(text) == "don't 50% ok"
    assert TextNormalizer(language="ko", symbols="drop")(text) == "Don t 50 OK"


def test_replacements_come_after_markup_and_before_punctuation(tmp_path: Path) -> None:
    path = tmp_path / "medical.tsv"
    path.write_text("mg/dL\t밀리그램 퍼 데시리터\nC.T.\tCT\n", "utf-8")
    normalizer = TextNormalizer(kspon="orthographic", replacements=path, lowercase=True)
    assert normalizer("(140mg/dL)/(백사십) C.T. 결과") == "140밀리그램 퍼 데시리터 ct 결과"


def test_a_table_is_read_when_needed_and_its_faults_are_named(tmp_path: Path) -> None:
    normalizer = TextNormalizer(replacements=tmp_path / "none.tsv")
    with pytest.raises(DataError, match=r"none\.tsv"):
        normalizer("가")


def test_the_fingerprint_tells_options_and_table_and_not_the_path(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.json"
    first.write_text("가\t나\n", "utf-8")
    second.write_text('{"가": "나"}', "utf-8")
    found = TextNormalizer(replacements=first).fingerprint
    assert found.startswith("text/normalizer version=1 language=ko brackets=drop kspon=none ")
    assert " replacements=1:" in found
    assert TextNormalizer(replacements=second).fingerprint == found
    assert len({TextNormalizer(**o).fingerprint for o in OPTIONS}) == len(OPTIONS)


def test_what_cannot_be_normalised_with_certainty_is_told() -> None:
    normalizer: TextForm = TextNormalizer(kspon="orthographic")
    assert normalizer.fault("(70%)/(칠 십 프로)") is None
    assert normalizer.fault("(70%)/칠 십 프로") == "half a dual transcription"
    assert TextNormalizer().fault("(A)/(B)") == "dual transcription, and kspon is not set"
    assert TextNormalizer().fault("(웃음) 네") is None
