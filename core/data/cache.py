"""Where derived files live."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """Return ``sori`` in the user's cache folder, which ``XDG_CACHE_HOME`` may name."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sori"
