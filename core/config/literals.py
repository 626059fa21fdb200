"""Splitting the text of lists and mappings as they are written on a command line."""

from __future__ import annotations

import ast

OPENING = {"[": "]", "(": ")", "{": "}"}
QUOTES = "\"'"


def enclosed(text: str, brackets: str) -> str | None:
    """Return what is inside ``brackets`` (such as ``[]``) around the whole text, or None."""
    text = text.strip()
    if len(text) < 2 or text[0] != brackets[0] or text[-1] != brackets[1]:
        return None
    return text[1:-1]


def split(text: str, separator: str = ",", *, limit: int = -1) -> list[str]:
    """Split at separators that are outside quotes and brackets; a trailing separator is allowed.

    Raises:
        ValueError: if a quote or bracket is not closed, or an item is empty.
    """
    items: list[str] = []
    start, depth, quote, skip = 0, [], "", False  # type: int, list[str], str, bool
    for index, character in enumerate(text):
        if skip:
            skip = False
        elif quote:
            skip = character == "\\"
            quote = "" if character == quote else quote
        elif character in QUOTES and not text[start:index].strip():
            quote = character
        elif character in OPENING:
            depth.append(OPENING[character])
        elif depth and character == depth[-1]:
            depth.pop()
        elif character == separator and not depth and len(items) != limit:
            items.append(text[start:index].strip())
            start = index + 1
    if quote or depth:
        raise ValueError(f"missing {quote or depth[-1]}")
    last = text[start:].strip()
    if last or not items:
        items.append(last)
    if items == [""]:
        return []
    if "" in items:
        raise ValueError("an item is empty")
    return items


def unquote(text: str) -> str | None:
    """Return the string that a quoted text stands for, or None if the text is not quoted."""
    text = text.strip()
    if len(text) < 2 or text[0] not in QUOTES or text[-1] != text[0]:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str) else None


def literal(text: str) -> object:
    """Return the Python literal that a text spells, else the text; ``true``, ``null`` are known."""
    words: dict[str, object] = {"null": None, "true": True, "false": False}
    if text in words:
        return words[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
