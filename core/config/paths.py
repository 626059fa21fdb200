"""Dotted paths: ``task.encoder.dim``, ``callbacks[0].every``, globs such as ``**.dropout``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

import fiddle as fdl

from core.config.hints import describe
from core.config.naming import label, place
from core.config.tree import KeyPath, Slot, items_of, slots_of, walk
from core.errors import ConfigError, closest, suggest

_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
_NAME = re.compile(r"[^.\[\]=\s]+")
_ASSIGNMENT = re.compile(r"((?:\[[^\]]*\]|[^=\[])*)=(.*)", re.DOTALL)
_BRACKET = re.compile(r"\[(?:(\d+)|\"([^\"]*)\"|'([^']*)')\]")


class PathError(ConfigError):
    """A path leads nowhere in a configuration."""


def format_path(path: KeyPath) -> str:
    """Return the canonical form: ``a.b[0].c``, with odd mapping keys as ``a["x.y"]``."""
    text = ""
    for step in path:
        if isinstance(step, str) and _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]" if isinstance(step, int) else f'["{step}"]'
    return text


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
            raise PathError(_no_such_step(config, path, depth, found, below))
        found = match
    if found is None:
        raise PathError("an override needs a path before '='")
    return found


def _no_such_step(
    config: fdl.Buildable[Any], path: KeyPath, depth: int, holder: Slot | None, below: list[Slot]
) -> str:
    text, step = format_path(path), path[depth]
    value = config if holder is None else holder.value
    where = "" if holder is None else f" ({format_path(holder.path)} is {place(holder)})"
    if not below and not isinstance(value, fdl.Buildable):
        kind = describe(holder.annotation) if holder is not None else ""
        what = f"{format_path(path[:depth])} holds {label(value)} ({kind}), with nothing below it"
    elif isinstance(value, list | tuple):
        what = f"{format_path(path[:depth])} has {len(value)} elements, and no [{step}]"
    elif isinstance(value, dict):
        what = f"{format_path(path[:depth])} has no key {str(step)!r}"
    else:
        what = f"{label(value)} has no parameter {str(step)!r}"
    near = nearest_paths(config, path, depth)
    if near:
        end = "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    else:
        names = [str(slot.path[-1]) for slot in below]
        end = suggest(str(step), names, noun="names")
    return f"{text}: {what}{where}; {end}"


def nearest_paths(
    config: fdl.Buildable[Any], path: KeyPath, depth: int, limit: int = 3
) -> list[str]:
    """Return existing paths that were probably meant by one that fails at step ``depth``."""
    known = {format_path(slot.path): slot.path for slot in walk(config)}
    near = [text for text, other in known.items() if other[-len(path) :] == path]
    siblings = [other for other in known.values() if other[:depth] == path[:depth]]
    names = {str(other[depth]): other[depth] for other in siblings if len(other) > depth}
    for name in closest(str(path[depth]), names, limit=limit):
        corrected = (*path[:depth], names[name], *path[depth + 1 :])
        near += [text for text, other in known.items() if other == corrected]
    if not near:
        near = closest(format_path(path), known, limit=limit)
        near = [text for text in near if str(known[text][-1]) == str(path[-1])] or near[:1]
    if not near:
        near = [text for text, other in known.items() if str(other[-1]) == str(path[-1])]
    return list(dict.fromkeys(near))[:limit]


def split_assignment(token: str) -> tuple[str, str] | None:
    """Split ``path=value`` at the first ``=`` outside brackets, or return None if there is none."""
    found = _ASSIGNMENT.fullmatch(token)
    return (found[1], found[2]) if found else None
