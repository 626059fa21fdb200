"""The check that a verb does not write over what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

from core.errors import DataError


def refuse_own_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise DataError if a file to write is one that is read, under whatever name."""
    for output, source in product(outputs, inputs):
        if output.exists() and source.exists() and output.samefile(source):
            raise DataError(
                f"{output} is what is read ({source}) and would be lost; name another output"
            )
