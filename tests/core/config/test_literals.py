from __future__ import annotations

import pytest

from core.config.literals import enclosed, literal, split, unquote


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        ("a, b,", ["a", "b"]),
        ("[a, b], {c: d, e: f}", ["[a, b]", "{c: d, e: f}"]),
        ("'a, b', c", ["'a, b'", "c"]),
        ("it's, ok", ["it's", "ok"]),
        (r"'it\'s, ok', b", [r"'it\'s, ok'", "b"]),
    ],
)
def test_split_respects_quotes_and_brackets(text: str, parts: list[str]) -> None:
    assert split(text) == parts


def test_split_stops_at_the_limit() -> None:
    assert split("a: b: c", ":", limit=1) == ["a", "b: c"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a,,b", "an item is empty"), ("[a", "missing ]"), ("'a, b", "missing '")],
)
def test_split_says_what_is_missing(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split(text)


def test_enclosed_returns_the_inside() -> None:
    assert enclosed(" [a, b] ", "[]") == "a, b"
    assert enclosed("a, b", "[]") is None
    assert enclosed("[", "[]") is None


def test_unquote_only_takes_a_whole_string() -> None:
    assert unquote("'a b'") == "a b"
    assert unquote(r'"a\tb"') == "a\tb"
    assert unquote("'a' + 'b'") is None
    assert unquote("ab") is None


def test_literal_falls_back_to_the_text() -> None:
    assert literal("(1, 'x')") == (1, "x")
    assert literal("null") is None
    assert literal("__import__('os')") == "__import__('os')"
