"""Sources by short names such as ``nemo:train.jsonl`` or ``hf:user/corpus?split=train``."""

from __future__ import annotations

from pathlib import Path

from core import uri as uris
from core.data.source import AnySource


def open_source(uri: str, *, cache_dir: Path | None) -> AnySource:
    """Make the source that ``uri`` names and open it.

    Args:
        uri: ``scheme:location[?option=value&...]``, see :func:`core.uri.make`.
        cache_dir: where derived files may be kept; None to keep none.

    Raises:
        ConfigError: scheme or option is unknown, or a value is not of the option's type.
        DataError: the source is missing or damaged.
    """
    source = make_source(uri)
    source.open(cache_dir)
    return source


def make_source(uri: str) -> AnySource:
    """Make the source that ``uri`` names without touching it. Raises ConfigError."""
    source: AnySource = uris.make(uri, kind="dataset", noun="data source")
    return source
