from __future__ import annotations

import unicodedata

import pytest

from components.datasets.demo_text import GRAMMARS, SPLITS, split_of
from core.errors import DataError

LANGUAGES = pytest.mark.parametrize("language", sorted(GRAMMARS))


@LANGUAGES
def test_splits_share_no_sentence_whatever_their_seeds(language: str) -> None:
    grammar = GRAMMARS[language]
    sentences = {
        split: {
            text for seed in range(3) for text in grammar.sentences(split, count=500, seed=seed)
        }
        for split in SPLITS
    }
    for split, texts in sentences.items():
        assert texts
        assert {split_of(text) for text in texts} == {split}


@LANGUAGES
def test_training_holds_the_whole_vocabulary_and_other_splits_nothing_else(language: str) -> None:
    grammar = GRAMMARS[language]
    vocabulary = set(grammar.vocabulary())
    assert 60 <= len(vocabulary) <= 105
    train = {w for s in grammar.sentences("train", count=2400, seed=0) for w in s.split()}
    assert train == vocabulary
    for split in ("validation", "test"):
        words = {w for s in grammar.sentences(split, count=160, seed=0) for w in s.split()}
        assert words <= vocabulary


@LANGUAGES
def test_sentences_are_short_and_normalised(language: str) -> None:
    for sentence in GRAMMARS[language].sentences("train", count=500, seed=1):
        assert 3 <= len(sentence.split()) <= 8
        assert unicodedata.is_normalized("NFC", sentence)
        assert "{" not in sentence


def test_english_has_no_two_words_that_sound_alike() -> None:
    words = set(GRAMMARS["en"].vocabulary())
    homophones = ({"two", "to"}, {"four", "for"}, {"eight", "ate"}, {"red", "read"}, {"one", "won"})
    for pair in homophones:
        assert len(words & pair) <= 1


def test_a_seed_chooses_the_sentences() -> None:
    first, again, other = (
        GRAMMARS["en"].sentences("train", count=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert GRAMMARS["en"].sentences("train", count=20, seed=0) == first[:20]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'train'"):
        GRAMMARS["en"].sentences("trian", count=1, seed=0)
