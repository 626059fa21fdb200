"""What holds for every tokenizer alike."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.tokenizers.bpe import BPETokenizer
from components.tokenizers.byte import ByteTokenizer
from components.tokenizers.character import CharacterTokenizer
from components.tokenizers.jamo import JamoTokenizer
from core.contracts import Tokenizer
from core.errors import CheckpointError, DataError
from core.text import normalise

KINDS = ("character", "jamo", "byte", "bpe")
ALPHABET = "abcxyzABCéüßñ' .,0129가각갂한글읽뷁힣ᄀㄱ中あ"
# Decomposed Hangul and accents, and white space of several kinds.
PARTS = st.one_of(
    st.sampled_from(list(ALPHABET)),
    st.sampled_from(["가", "한글", "é", "ü", " ", "  ", "\t", "\n"]),
)
TEXTS = st.lists(PARTS, min_size=1, max_size=30).map("".join).filter(str.strip)


def make(kind: str, lowercase: bool = False) -> Tokenizer:
    if kind == "character":
        return CharacterTokenizer(lowercase=lowercase)
    if kind == "jamo":
        return JamoTokenizer(lowercase=lowercase)
    if kind == "byte":
        return ByteTokenizer(lowercase=lowercase)
    return BPETokenizer(vocab_size=4000, shrink=True, lowercase=lowercase)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), lowercase=st.booleans())
def test_text_comes_back_in_its_normal_form(kind: str, texts: list[str], lowercase: bool) -> None:
    tokenizer = make(kind, lowercase)
    tokenizer.fit(texts)
    for text in texts:
        ids = tokenizer.encode(text)
        assert all(0 < index < tokenizer.vocab_size for index in ids)
        assert tokenizer.decode(ids) == normalise(text, lowercase=lowercase)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_pickled_tokenizers_agree_with_the_first(kind: str, tmp_path: Path) -> None:
    texts = ["turn on the lamp", "거실 불을 켜 주세요"]
    first = make(kind)
    first.fit(texts)
    first.save(tmp_path)
    second = make(kind)
    second.load(tmp_path)
    third = pickle.loads(pickle.dumps(first))
    for other in (second, third):
        assert other.fitted
        assert other.vocab_size == first.vocab_size
        assert [other.encode(text) for text in texts] == [first.encode(text) for text in texts]
        names = [other.token(index) for index in range(other.vocab_size)]
        assert names == [first.token(index) for index in range(first.vocab_size)]
        assert names[0] == "<blank>"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_text_is_refused(kind: str, texts: list[str]) -> None:
    with pytest.raises(DataError, match="no transcripts"):
        make(kind).fit(texts)


@pytest.mark.parametrize("kind", ["character", "jamo", "bpe"])
def test_use_before_fit_is_refused(kind: str, tmp_path: Path) -> None:
    tokenizer = make(kind)
    assert not tokenizer.fitted
    for use in (
        lambda: tokenizer.vocab_size,
        lambda: tokenizer.encode("a"),
        lambda: tokenizer.decode([1]),
        lambda: tokenizer.token(0),
        lambda: tokenizer.save(tmp_path),
    ):
        with pytest.raises(DataError, match=f"{kind} tokenizer has no vocabulary yet"):
            use()


@pytest.mark.parametrize("kind", KINDS)
def test_blanks_decode_to_nothing_and_other_ids_are_refused(kind: str) -> None:
    tokenizer = make(kind)
    tokenizer.fit(["one two", "three"])
    ids = tokenizer.encode("one two")
    assert tokenizer.decode([0, *ids, 0]) == "one two"
    for index in (-1, tokenizer.vocab_size):
        with pytest.raises(DataError, match=f"{index} is not in 0..{tokenizer.vocab_size - 1}"):
            tokenizer.decode([index])
        with pytest.raises(DataError, match=f"{index} is not in 0..{tokenizer.vocab_size - 1}"):
            tokenizer.token(index)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_type_version_or_setting_is_refused(kind: str, tmp_path: Path) -> None:
    tokenizer = make(kind)
    with pytest.raises(CheckpointError, match="no tokenizer in"):
        tokenizer.load(tmp_path)
    tokenizer.fit(["one two three"])
    tokenizer.save(tmp_path)
    other = make(KINDS[KINDS.index(kind) - 1])
    with pytest.raises(CheckpointError, match=f"type '{kind}'"):
        other.load(tmp_path)
    with pytest.raises(CheckpointError, match="lowercase False"):
        make(kind, lowercase=True).load(tmp_path)
    file = tmp_path / "tokenizer.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        tokenizer.load(tmp_path)
    file.write_text(file.read_text()[:-5])
    with pytest.raises(CheckpointError, match="not valid JSON"):
        tokenizer.load(tmp_path)
    file.write_text("[]")
    with pytest.raises(CheckpointError, match="expected an object"):
        tokenizer.load(tmp_path)
