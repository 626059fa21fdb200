"""Flat paths to nested dictionaries, as trackers show them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

COMPONENT = "@"
"""Key of the value that a path has beside what lies below it, such as which component it is."""

_STEP = re.compile(r'\["(?P<key>[^"]*)"\]|\[(?P<index>\d+)\]|(?P<name>[^.\[\]]+)')


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"a.b[0].c": 1}`` as ``{"a": {"b": {"0": {"c": 1}}}}``.

    Where a path has a value and others lie below it, the value gets the key ``@``. Values become
    numbers, strings, booleans, None, and lists and dictionaries of these.
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        steps = [str(match[match.lastgroup or 0]) for match in _STEP.finditer(path)]
        node = tree
        for step in steps[:-1]:
            node = _branch(node, step)
        leaf = steps[-1] if steps else COMPONENT
        if isinstance(node.get(leaf), dict) and not isinstance(value, Mapping):
            node[leaf][COMPONENT] = _plain(value)
        else:
            node[leaf] = _plain(value)
    return tree


def _branch(node: dict[str, Any], step: str) -> dict[str, Any]:
    """Return the dictionary at ``step``, keeping a value that stands there under ``@``."""
    found = node.get(step)
    if not isinstance(found, dict):
        node[step] = {} if step not in node else {COMPONENT: found}
    branch: dict[str, Any] = node[step]
    return branch


def _plain(value: Any) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, bool):
        return value
    for base in (int, float, str):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    return str(value)
