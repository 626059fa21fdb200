from __future__ import annotations

import pytest

from components.tokenizers.jamo import JamoTokenizer
from core.errors import DataError

SYLLABLES = "".join(chr(point) for point in range(0xAC00, 0xD7A4))


def test_every_syllable_comes_back_from_67_jamo() -> None:
    tokenizer = JamoTokenizer()
    tokenizer.fit([SYLLABLES])
    assert tokenizer.vocab_size == 1 + 19 + 21 + 27
    assert tokenizer.decode(tokenizer.encode(SYLLABLES)) == SYLLABLES


def test_syllables_that_training_had_not_can_be_encoded() -> None:
    tokenizer = JamoTokenizer()
    tokenizer.fit(["강 넌"])
    assert tokenizer.decode(tokenizer.encode("건 낭")) == "건 낭"
    with pytest.raises(DataError, match=r"HANGUL JUNGSEONG O\) at position 1 of '공'"):
        tokenizer.encode("공")


def test_initial_and_final_consonants_are_different_tokens() -> None:
    tokenizer = JamoTokenizer()
    tokenizer.fit(["각"])
    first, _, last = tokenizer.encode("각")
    assert first != last


def test_what_is_not_hangul_stays_whole() -> None:
    tokenizer = JamoTokenizer()
    tokenizer.fit(["é 가"])
    assert len(tokenizer.encode("é")) == 1
