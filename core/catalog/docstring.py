"""Google-style docstrings: the summary line and the ``Args:`` section."""

from __future__ import annotations

import re

_ITEM = re.compile(
    r"(?P<names>\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?:\([^)]*\))?:(?:\s+|$)(?P<text>.*)"
)


def summary(doc: str) -> str:
    """Return the first line of a docstring."""
    return doc.strip().partition("\n")[0].strip()


def argument_docs(doc: str) -> dict[str, str]:
    """Map argument names to their descriptions, each joined into one line.

    Args:
        doc: a dedented docstring. An item is ``name: text``, ``name (type): text`` or
            ``a, b: text``; lines indented deeper go on with it.
    """
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line, depth, item_depth in _section(doc, "Args:"):
        match = _ITEM.match(line) if depth == item_depth else None
        if match:
            current = [match["text"]]
            for name in match["names"].split(","):
                found[name.strip().lstrip("*")] = current
        elif current is not None:
            current.append(line)
    return {name: " ".join(part for part in parts if part) for name, parts in found.items()}


def _section(doc: str, title: str) -> list[tuple[str, int, int]]:
    """Return (text, indent, indent of the first line) for the lines under ``title``."""
    lines = doc.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == title), None)
    if start is None:
        return []
    outer = _indent(lines[start])
    body: list[tuple[str, int]] = []
    for line in lines[start + 1 :]:
        if not line.strip():
            continue
        if _indent(line) <= outer:
            break
        body.append((line.strip(), _indent(line)))
    return [(text, depth, body[0][1]) for text, depth in body]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
