"""Results in files that are opened before the work and have their names once they are complete."""

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
    """Yield what writes an object as a line; see :func:`text_file`.

    Raises:
        DataError: the file cannot be written.
    """
    with text_file(path) as write:
        yield lambda record: write(json.dumps(record, ensure_ascii=False) + "\n")


@contextmanager
def text_file(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Yield what writes text; without a path it writes nothing.

    The file has its name once all is in it. Until then, and if the command is killed, what has been
    done is in ``NAME.part``. A link is followed, and what is no file (``/dev/stdout``, a pipe) is
    written to as it comes.

    Raises:
        DataError: the file cannot be written.
    """
    if path is None:
        yield lambda text: None
        return
    target = path.resolve()
    direct = target.exists() and not target.is_file()
    part = target if direct else target.with_name(f"{target.name}.part")
    try:
        file = part.open("w", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error

    def write(text: str) -> None:
        try:
            file.write(text)
            file.flush()
        except OSError as error:
            raise _unwritable(path, error) from error

    try:
        with file:
            yield write
    except BaseException:
        if not direct and not part.stat().st_size:
            part.unlink()
        raise
    if direct:
        return
    try:
        part.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written: {error.strerror}")
