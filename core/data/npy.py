"""Arrays in ``.npy`` files: read without executing anything, written whole or not at all."""

from __future__ import annotations

import io
import math
import os
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from core.checkpoint.atomic import naming
from core.errors import DataError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

SCRATCH = ".tmp-"
"""Prefix of a file that is being written."""


class ArrayError(DataError):
    """An array that cannot be used.

    Args:
        reason: short and countable, such as ``missing file`` or ``not an array``.
        detail: what was found and what was expected.
    """

    def __init__(self, *, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the head of a ``.npy`` file says, and the bytes that such a file has."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


def read_array(path: Path, *, what: str) -> Array:
    """Read a file. Raises ArrayError; ``what`` names the content in its reason."""
    try:
        with path.open("rb") as file:
            _check_size(file)
            found: Array = np.lib.format.read_array(file, allow_pickle=False)
            return found
    except FileNotFoundError as error:
        raise ArrayError(reason=f"{what}: missing file", detail=str(path)) from error
    except (OSError, ValueError, EOFError) as error:
        empty = path.is_file() and path.stat().st_size == 0
        reason = "empty file" if empty else "not an array"
        raise ArrayError(reason=f"{what}: {reason}", detail=f"{path}: {error}") from error


def read_header(path: Path) -> Header:
    """Read the head of a file. Raises OSError, or ValueError if it is not an array."""
    with path.open("rb") as file:
        return _header(file)


def write_array(path: Path, array: Array) -> None:
    """Write a file under a temporary name beside ``path`` and rename it. Raises OSError."""
    partial = path.with_name(f"{SCRATCH}{path.name}-{os.getpid()}")
    # To a file NumPy writes through the C library, and a small array that does not fit on the disk
    # is then cut off without an error.
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    with naming(path):
        try:
            with partial.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _header(file: BinaryIO) -> Header:
    version = np.lib.format.read_magic(file)
    try:
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    except tokenize.TokenError as error:
        raise ValueError(f"cannot parse its header: {error}") from error
    return Header(shape=shape, dtype=dtype, size=file.tell() + math.prod(shape) * dtype.itemsize)


def _check_size(file: BinaryIO) -> None:
    """Refuse a shape that the file does not hold, before memory is taken for it."""
    header, found = _header(file), os.fstat(file.fileno()).st_size
    if not header.dtype.hasobject and header.size > found:
        raise ValueError(
            f"the header tells of {header.dtype} {header.shape}, which takes {header.size} bytes; "
            f"the file has {found}"
        )
    file.seek(0)
