"""Results as JSON lines, in a file that is there once it is complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from core.errors import DataError

Write: TypeAlias = Callable[[dict[str, Any]], None]


@contextmanager
def json_lines(path: Path | None) -> Iterator[Write]:
    """Yield what writes an object as a line; without a path it writes nothing.

    The file has its name once all lines are in it. Until then, and if the command is killed, what
    has been done is in ``NAME.part``.

    Raises:
        DataError: the file cannot be written.
    """
    if path is None:
        yield lambda record: None
        return
    part = path.with_name(f"{path.name}.part")
    try:
        file = part.open("w", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error

    def write(record: dict[str, Any]) -> None:
        try:
            print(json.dumps(record, ensure_ascii=False), file=file, flush=True)
        except OSError as error:
            raise _unwritable(path, error) from error

    with file:
        yield write
    try:
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written: {error.strerror}")
