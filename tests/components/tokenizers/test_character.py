from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from components.tokenizers.character import CharacterTokenizer
from core.errors import CheckpointError, DataError


def fitted(*texts: str, lowercase: bool = False) -> CharacterTokenizer:
    tokenizer = CharacterTokenizer(lowercase=lowercase)
    tokenizer.fit(texts)
    return tokenizer


def test_ids_follow_code_points_after_the_blank() -> None:
    tokenizer = fitted("b a", "가")
    assert [tokenizer.token(index) for index in range(5)] == ["<blank>", "▁", "a", "b", "가"]
    assert tokenizer.encode("ab 가") == [2, 3, 1, 4]


def test_the_order_of_texts_does_not_matter() -> None:
    assert fitted("ab", "cd").encode("abcd") == fitted("dc", "ba").encode("abcd") == [1, 2, 3, 4]


def test_decomposed_text_is_the_same_text() -> None:
    tokenizer = fitted("한글 é")
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode(unicodedata.normalize("NFD", "한글 é")) == tokenizer.encode("한글 é")


def test_an_unseen_character_is_named_with_its_position() -> None:
    with pytest.raises(DataError, match=r"'é' \(U\+00E9 .*ACUTE\) at position 3 of 'caf\u00e9'"):
        fitted("cafe").encode("café")
    with pytest.raises(DataError, match="it knows 'c': set lowercase=True"):
        fitted("cafe").encode("Cafe")


def test_lowercase_applies_to_fitting_and_encoding() -> None:
    tokenizer = fitted("Cafe", lowercase=True)
    assert tokenizer.decode(tokenizer.encode("CAFE")) == "cafe"


@pytest.mark.parametrize("symbols", [None, [], ["a", "a"], ["ab"], [3]])
def test_a_damaged_vocabulary_is_refused(symbols: object, tmp_path: Path) -> None:
    tokenizer = fitted("ab")
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "symbols": symbols}))
    with pytest.raises(CheckpointError, match="not a list of distinct characters"):
        tokenizer.load(tmp_path)
