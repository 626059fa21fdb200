"""The file ``tokenizer.json``, which every tokenizer writes beside a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import CheckpointError, DataError

FILE = "tokenizer.json"
_VERSION = 1


def write(directory: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write ``content`` for a tokenizer registered as ``kind``."""
    directory.mkdir(parents=True, exist_ok=True)
    record = {"type": kind, "version": _VERSION, **content}
    (directory / FILE).write_text(
        json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )


def read(directory: Path, kind: str, **settings: bool) -> dict[str, Any]:
    """Read what :func:`write` wrote.

    Args:
        directory: where the file is.
        kind: name that the reading tokenizer is registered under.
        settings: what it is configured with, and the file must agree with.

    Raises:
        CheckpointError: if the file is missing or damaged, or was written by a tokenizer of
            another type, version or setting.
    """
    path = directory / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no tokenizer in {directory} ({FILE})") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} holds a {type(record).__name__}, expected an object")
    expected = {"type": kind, "version": _VERSION, **settings}
    for name, value in expected.items():
        if record.get(name) != value:
            raise CheckpointError(
                f"{path} was written by a tokenizer with {name} {record.get(name)!r}; "
                f"this one is configured with {value!r}"
            )
    return record


def refuse_id(index: int, vocab_size: int) -> DataError:
    """Return the error for an id outside the vocabulary."""
    return DataError(f"token id {index} is not in 0..{vocab_size - 1}")


def refuse_unfitted(kind: str) -> DataError:
    """Return the error for a tokenizer that has no vocabulary yet."""
    return DataError(f"the {kind} tokenizer has no vocabulary yet; call fit() or load() first")
