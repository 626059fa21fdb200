from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.tokenizers.byte import ByteTokenizer


def test_ids_are_bytes_plus_one() -> None:
    assert ByteTokenizer().encode("a가") == [0x61 + 1, 0xEA + 1, 0xB0 + 1, 0x80 + 1]
    assert ByteTokenizer().vocab_size == 257


def test_broken_sequences_become_replacement_characters() -> None:
    ids = ByteTokenizer().encode("가b")
    assert ByteTokenizer().decode(ids[1:]) == "\ufffd\ufffdb"
    assert ByteTokenizer().decode(ids[:2]) == "\ufffd"


@given(st.lists(st.integers(0, 256)))
def test_any_ids_decode(ids: list[int]) -> None:
    ByteTokenizer().decode(ids)


def test_printable_forms() -> None:
    tokenizer = ByteTokenizer()
    assert [tokenizer.token(byte + 1) for byte in (0x41, 0x20, 0xE1, 0x0A)] == [
        "A",
        "▁",
        "<0xE1>",
        "<0x0A>",
    ]
