"""What was probably meant by a path that leads nowhere."""

from __future__ import annotations

from typing import Any

import fiddle as fdl

from core.config.naming import label, location
from core.config.tree import KeyPath, Slot, format_path, items_of, slots_of, walk
from core.errors import closest, suggest


def no_such_step(config: fdl.Buildable[Any], path: KeyPath, depth: int, holder: Slot | None) -> str:
    """Say that step ``depth`` of a path does not exist, and which paths are nearest.

    Args:
        config: the configuration.
        path: the path.
        depth: index of the first step that does not exist.
        holder: the slot above it; None for the root.
    """
    text, step = format_path(path), str(path[depth])
    below = list(slots_of(config)) if holder is None else list(items_of(holder))
    near = nearest_paths(config, path, depth)
    if near:
        end = "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    else:
        end = suggest(step, [str(slot.path[-1]) for slot in below], noun="names")
    if holder is None:
        return f"{text}: {fdl.get_callable(config).__name__} has no parameter '{step}'; {end}"
    return f"{text}: {_holder_lacks(holder, step)}; {end}"


def _holder_lacks(holder: Slot, step: str) -> str:
    above, value, origin = format_path(holder.path), holder.value, location(holder)
    if isinstance(value, fdl.Buildable):
        return f"{above} is {label(value)} ({origin}), which has no parameter '{step}'"
    if isinstance(value, dict):
        return f"{above} ({origin}) has no key '{step}'"
    if isinstance(value, list | tuple):
        return f"{above} ({origin}) has length {len(value)}, and no [{step}]"
    return f"{above} is {label(value)} ({origin}), with nothing below it"


def nearest_paths(
    config: fdl.Buildable[Any], path: KeyPath, depth: int, limit: int = 3
) -> list[str]:
    """Return existing paths that were probably meant by one that fails at step ``depth``.

    In this order: paths that end in the whole path given; the path with the failing step replaced
    by a name like it; if there are none, paths that read alike and end in the same step; then any
    path that ends in the same step.
    """
    known = {format_path(slot.path): slot.path for slot in walk(config)}
    near = [text for text, other in known.items() if other[-len(path) :] == path]
    siblings = [other for other in known.values() if other[:depth] == path[:depth]]
    names = {str(other[depth]): other[depth] for other in siblings if len(other) > depth}
    for name in closest(str(path[depth]), names, limit=limit):
        corrected = format_path((*path[:depth], names[name], *path[depth + 1 :]))
        near += [corrected] if corrected in known else []
    if not near:
        same_end = [text for text, other in known.items() if str(other[-1]) == str(path[-1])]
        near = closest(format_path(path), same_end, limit=limit) or same_end
    if not near:
        near = closest(format_path(path), known, limit=1)
    return list(dict.fromkeys(near))[:limit]
