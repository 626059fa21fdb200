"""Dotted paths: ``task.encoder.dim``, ``callbacks[0].every``, globs such as ``**.dropout``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

import fiddle as fdl

from core.config.nearest import no_such_step
from core.config.tree import KeyPath, Slot, items_of, slots_of
from core.errors import ConfigError

_NAME = re.compile(r"[^.\[\]=\s]+")
_ASSIGNMENT = re.compile(r"((?:\[[^\]]*\]|[^=\[])*)=(.*)", re.DOTALL)
_BRACKET = re.compile(r"\[(?:(\d+)|\"([^\"]*)\"|'([^']*)')\]")


class PathError(ConfigError):
    """A path leads nowhere in a configuration."""


def parse_path(text: str) -> KeyPath:
    """Split a dotted path; indices may be written ``[0]`` or ``.0``, odd keys ``["x.y"]``.

    Raises:
        PathError: if the text is not a path.
    """
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        bracket = _BRACKET.match(text, position)
        if bracket and steps:
            index, double, single = bracket.groups()
            steps.append(int(index) if index is not None else double or single or "")
            position = bracket.end()
            continue
        if steps and text[position] == ".":
            position += 1
        name = _NAME.match(text, position)
        if name is None:
            raise PathError(f"{text!r}: not a path; write a.b.c or a.b[0].c")
        steps.append(int(name[0]) if name[0].isascii() and name[0].isdigit() else name[0])
        position = name.end()
    if not steps:
        raise PathError("an override needs a path before '='")
    return tuple(steps)


def is_glob(text: str) -> bool:
    """Return whether a path is a pattern."""
    return "*" in text or "?" in text


def glob_matches(pattern: Sequence[str | int], path: KeyPath) -> bool:
    """Return whether a path fits a pattern; ``**`` stands for any number of steps, none included.

    Any other ``*`` or ``?`` matches within one step.
    """
    if not pattern or not path:
        return all(step == "**" for step in pattern) and not path
    head, rest = str(pattern[0]), pattern[1:]
    if head == "**":
        return glob_matches(rest, path) or glob_matches(pattern, path[1:])
    return fnmatch.fnmatchcase(str(path[0]), head) and glob_matches(rest, path[1:])


def resolve(config: fdl.Buildable[Any], path: KeyPath) -> Slot:
    """Return the slot at a path.

    Raises:
        PathError: naming the step that does not exist, what holds it, and the nearest paths.
    """
    found: Slot | None = None
    for depth, step in enumerate(path):
        below = list(slots_of(config)) if found is None else list(items_of(found))
        step = str(step) if below and isinstance(below[0].path[-1], str) else step
        match = next((slot for slot in below if slot.path[-1] == step), None)
        if match is None:
            raise PathError(no_such_step(config, path, depth, found))
        found = match
    assert found is not None, "a parsed path has at least one step"
    return found


def split_assignment(token: str) -> tuple[str, str] | None:
    """Split ``path=value`` at the first ``=`` outside brackets, or return None if there is none."""
    found = _ASSIGNMENT.fullmatch(token)
    return (found[1], found[2]) if found else None
