from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.datasets.demo_text import GRAMMARS
from components.tokenizers.bpe import BPETokenizer
from core.errors import CheckpointError, ConfigError, DataError

ENGLISH = GRAMMARS["en"].sentences("train", count=300, seed=0)
KOREAN = GRAMMARS["ko"].sentences("train", count=300, seed=0)


def test_the_vocabulary_has_the_size_asked_for_and_shortens_text() -> None:
    tokenizer = BPETokenizer(vocab_size=200)
    tokenizer.fit(ENGLISH)
    assert tokenizer.vocab_size == 200
    tokens = sum(len(tokenizer.encode(sentence)) for sentence in ENGLISH)
    assert tokens < sum(map(len, ENGLISH)) / 2
    sentence = ENGLISH[0]
    assert "".join(map(tokenizer.token, tokenizer.encode(sentence))) == "▁" + sentence.replace(
        " ", "▁"
    )


def test_unseen_korean_sentences_come_back() -> None:
    tokenizer = BPETokenizer(vocab_size=300)
    tokenizer.fit(KOREAN)
    for sentence in GRAMMARS["ko"].sentences("test", count=40, seed=0):
        assert tokenizer.decode(tokenizer.encode(sentence)) == sentence


def test_another_process_trains_the_same_model(tmp_path: Path) -> None:
    def train(folder: Path) -> bytes:
        code = (
            "import sys, pathlib\n"
            "from components.datasets.demo_text import GRAMMARS\n"
            "from components.tokenizers.bpe import BPETokenizer\n"
            "tokenizer = BPETokenizer(vocab_size=200)\n"
            "tokenizer.fit(GRAMMARS['en'].sentences('train', count=300, seed=0))\n"
            "tokenizer.save(pathlib.Path(sys.argv[1]))\n"
        )
        root = Path(__file__).parents[3]
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=root)
        return (folder / "tokenizer.model").read_bytes()

    tokenizer = BPETokenizer(vocab_size=200)
    tokenizer.fit(iter(ENGLISH))
    tokenizer.save(tmp_path / "here")
    assert train(tmp_path / "there") == (tmp_path / "here" / "tokenizer.model").read_bytes()


def test_a_size_beyond_the_text_is_refused_with_the_largest_possible() -> None:
    with pytest.raises(DataError, match=r"set vocab_size=\d+ or less, or shrink=True") as refusal:
        BPETokenizer(vocab_size=9000).fit(ENGLISH)
    largest = int(str(refusal.value).split("set vocab_size=")[1].split()[0])
    tokenizer = BPETokenizer(vocab_size=largest)
    tokenizer.fit(ENGLISH)
    shrunk = BPETokenizer(vocab_size=9000, shrink=True)
    shrunk.fit(ENGLISH)
    assert tokenizer.vocab_size == shrunk.vocab_size == largest


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_a_size_below_the_characters_is_refused_with_the_smallest_possible(
    byte_fallback: bool,
) -> None:
    with pytest.raises(DataError, match=r"set vocab_size=\d+ or more") as refusal:
        BPETokenizer(vocab_size=20, byte_fallback=byte_fallback).fit(KOREAN)
    smallest = int(str(refusal.value).split("set vocab_size=")[1].split()[0])
    BPETokenizer(vocab_size=smallest, byte_fallback=byte_fallback).fit(KOREAN)


def test_unknown_characters_are_refused_or_spelt_in_bytes() -> None:
    plain = BPETokenizer(vocab_size=200)
    plain.fit(ENGLISH)
    with pytest.raises(DataError, match=r"'ü' .*position 1 of 'zürich'.*byte_fallback=True"):
        plain.encode("zürich")
    spelling = BPETokenizer(vocab_size=500, byte_fallback=True)
    spelling.fit(ENGLISH)
    assert spelling.decode(spelling.encode("zürich 가")) == "zürich 가"
    # SentencePiece's own sign for a space would come back as a space.
    with pytest.raises(DataError, match="LOWER ONE EIGHTH BLOCK"):
        spelling.encode("a▁b")


def test_rare_characters_can_be_left_out() -> None:
    texts = ["aaaa bbbb"] * 200 + ["q"]
    tokenizer = BPETokenizer(vocab_size=6, character_coverage=0.99, shrink=True)
    tokenizer.fit(texts)
    with pytest.raises(DataError, match="'q'"):
        tokenizer.encode("q")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    tokenizer = BPETokenizer(vocab_size=200)
    tokenizer.fit(ENGLISH)
    tokenizer.save(tmp_path)
    model = tmp_path / "tokenizer.model"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        BPETokenizer().load(tmp_path)
    model.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        BPETokenizer().load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"vocab_size": 1}, "vocab_size is 1"), ({"character_coverage": 0.0}, "coverage is 0.0")],
)
def test_impossible_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BPETokenizer(**options)  # type: ignore[arg-type]
