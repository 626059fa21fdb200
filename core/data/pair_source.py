"""Where a pair manifest or a speaker mapping is: a file, or what a component makes (``pairs``)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from core import catalog
from core.uri import make


class PairSource(Protocol):
    """A file that is made on demand, named by a URI such as ``demo:train`` (kind ``pairs``)."""

    def open(self, cache_dir: Path | None) -> Path:
        """Return the file, and make it first if it is not there.

        Args:
            cache_dir: where what is made is kept; None for the user's cache folder.

        Raises:
            DataError: it cannot be made.
        """


def located(text: str, cache_dir: Path | None) -> Path:
    """Return the file that a path or a URI stands for.

    What begins with the name of a component and a colon is a URI; anything else is a path.

    Raises:
        ConfigError: an option of the URI is unknown or of the wrong type.
        DataError: the file cannot be made.
    """
    scheme, colon, _ = text.partition(":")
    if not colon or scheme not in catalog.index().names("pairs"):
        return Path(text).expanduser()
    source: PairSource = make(text, kind="pairs", noun="pairs")
    return source.open(cache_dir)
