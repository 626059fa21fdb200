"""A model's configuration, read from YAML that anyone may have written."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from core.errors import CheckpointError

MOST_BYTES = 4 << 20
MOST_NODES = 100_000
"""Settings, names and sections in all, each counted as often as aliases repeat it."""
MOST_NUMBER = 64
"""Characters of a number, a date or the like."""

_TEXT = "tag:yaml.org,2002:str"


def read_config(file: Path, *, label: str) -> dict[str, Any]:
    """Read a configuration as plain values.

    Args:
        file: of at most ``MOST_BYTES``.
        label: what it is called in messages.

    Raises:
        CheckpointError: it is no plain YAML, holds no settings by name, or is larger, once its
            aliases are followed, than any configuration is.
    """
    try:
        found = _plain(file.read_text(encoding="utf-8"), label)
    except CheckpointError:
        raise
    except Exception as error:  # PyYAML raises almost anything on values that are not of their tag
        lines = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(f"{label} is not plain YAML: {lines[0][:300]}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{label} holds a {type(found).__name__}; expected settings")
    return found


class _Loader(yaml.SafeLoader):
    """Gives a document of too many nodes up before it is read to its end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise yaml.YAMLError(f"has more than {MOST_NODES:,} nodes")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def _plain(text: str, label: str) -> Any:  # noqa: ANN401
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}, label) > MOST_NODES:
            raise CheckpointError(
                f"{label}: its aliases stand for more than {MOST_NODES:,} nodes; not read"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, sizes: dict[yaml.Node, int], label: str) -> int:
    """Return how many nodes there are with every alias followed, looking at each node once."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag != _TEXT and len(node.value) > MOST_NUMBER:
            raise CheckpointError(
                f"{label}: a value of type {node.tag.rpartition(':')[2][:40]} has "
                f"{len(node.value):,} characters; at most {MOST_NUMBER} are read"
            )
        return 1
    if node in sizes:
        if sizes[node] == 0:
            raise CheckpointError(f"{label}: a section is part of itself; not read")
        return sizes[node]
    sizes[node] = 0
    parts: Iterable[yaml.Node] = node.value
    if isinstance(node, yaml.MappingNode):
        parts = chain.from_iterable(node.value)
    sizes[node] = 1 + sum(_expanded(part, sizes, label) for part in parts)
    return sizes[node]
