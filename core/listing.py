"""What the user wants transcribed: audio files, lists of them, and sources by URI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from core import catalog
from core.data.uri import make_source
from core.errors import DataError

MANIFESTS = (".csv", ".gz", ".json", ".jsonl", ".tsv")


def expand(arguments: Sequence[str]) -> Iterator[list[Path] | str]:
    """Yield runs of audio files and URIs of sources, in the order in which they were given.

    Args:
        arguments: paths of audio files; ``@file`` for a text file with one path a line; URIs such
            as ``nemo:test.jsonl``. What exists as a file is taken for audio whatever its name.

    Raises:
        DataError: a list cannot be read, or names nothing.
        ConfigError: a manifest was given without its scheme.
    """
    files: list[Path] = []
    for argument in arguments:
        if not _is_uri(argument):
            files += _files(argument)
            continue
        if files:
            yield files
            files = []
        yield argument
    if files:
        yield files


def read_list(path: Path) -> list[Path]:
    """Read a text file with one path a line; relative ones start from its folder.

    Raises:
        DataError: it cannot be read, or names nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a text file in UTF-8 with one path a line; {error.reason} at byte "
            f"{error.start}"
        ) from error
    names = [line.strip() for line in text.splitlines()]
    found = [path.parent / name for name in names if name]
    if not found:
        raise DataError(f"{path}: the list names no audio file; expected one path a line")
    return found


def _is_uri(argument: str) -> bool:
    scheme, colon, _ = argument.partition(":")
    known = bool(colon) and scheme in catalog.index().names("dataset")
    return known and not Path(argument).exists()


def _files(argument: str) -> Iterable[Path]:
    path = Path(argument)
    if argument.startswith("@") and not path.exists():
        return read_list(Path(argument[1:]))
    if path.suffix in MANIFESTS:
        make_source(argument)  # refuses it, and names the schemes
    return [path]
