"""Google-style docstrings: the summary line and the ``Args:`` section."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from core.catalog.records import Parameter

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
    lines = doc.splitlines()
    start, end = _bounds(lines)
    section = [line for line in lines[start + 1 : end] if line.strip()]
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in section:
        match = _ITEM.match(line.strip()) if _indent(line) == _indent(section[0]) else None
        if match:
            current = [match["text"]]
            for name in match["names"].split(","):
                found[name.strip().lstrip("*")] = current
        elif current is not None:
            current.append(line.strip())
    return {name: " ".join(part for part in parts if part) for name, parts in found.items()}


def without_arguments(doc: str) -> str:
    """Return a docstring without its ``Args:`` section."""
    lines = doc.splitlines()
    start, end = _bounds(lines)
    return "\n".join([*lines[:start], *lines[end:]]).strip()


def documented(parameters: Iterable[Parameter], doc: str) -> list[Parameter]:
    """Return the parameters with what the ``Args:`` section of ``doc`` says of them."""
    docs = argument_docs(doc)
    return [
        replace(parameter, doc=docs.get(parameter.name, parameter.doc)) for parameter in parameters
    ]


def _bounds(lines: list[str]) -> tuple[int, int]:
    """Return the first line of the ``Args:`` section and the one after its last, or an empty span.

    The section ends where a line is not indented deeper than its title.
    """
    for start, line in enumerate(lines):
        if line.strip() == "Args:":
            below = range(start + 1, len(lines))
            out = (i for i in below if lines[i].strip() and _indent(lines[i]) <= _indent(line))
            return start, next(out, len(lines))
    return 0, 0


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
