"""Files of weights that other toolkits wrote: read without executing anything, written whole."""

from __future__ import annotations

import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from core.errors import CheckpointError, suggest

PICKLES = (".ckpt", ".pt", ".pth")
SAFETENSORS = ".safetensors"


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise CheckpointError unless the name ends in one of ``suffixes``."""
    if path.suffix not in suffixes:
        raise CheckpointError(
            f"{path}: unknown form '{path.suffix}'; expected a file that ends in one of "
            f"{', '.join(suffixes)}"
        )


def check_file(path: Path, suffixes: Sequence[str]) -> None:
    """Raise CheckpointError unless ``path`` is a file of a known form; name one that is near."""
    check_suffix(path, suffixes)
    if path.is_file():
        return
    if path.exists():
        raise CheckpointError(f"{path}: not a file")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: no such file, and no folder {path.parent}")
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix in suffixes]
    near = suggest(path.name, names, noun=f"files in {path.parent}")
    raise CheckpointError(f"{path}: no such file; {near}")


def read_pickle(
    file: Path,
    *,
    label: str,
    inside: Sequence[str] = (),
    tolerating: Callable[[Path], AbstractContextManager[None]] | None = None,
) -> dict[str, Tensor]:
    """Read tensors by name from what ``torch.save`` wrote: plain data, or a refusal.

    Args:
        file: to read; its tensors are mapped from it where its form allows.
        label: what it is called in messages.
        inside: keys under which the tensors may lie, beside other plain values; the first that is
            there counts.
        tolerating: makes a context in which further types are read as something harmless.

    Raises:
        CheckpointError: the file is damaged, or holds more than plain data or no tensors.
    """
    try:
        found = _unpickled(file, tolerating)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{label} holds more than tensors and plain values, and was not loaded: {_cause(error)}"
        ) from error
    except Exception as error:  # torch's reader raises almost anything on damaged bytes
        raise CheckpointError(f"{label} is damaged: {_cause(error)}") from error
    if isinstance(found, dict):
        found = next((found[k] for k in inside if isinstance(found.get(k), Mapping)), found)
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{label} holds a {type(found).__name__}; expected tensors by name")
    strange = [str(n) for n, v in found.items() if not (isinstance(n, str) and _dense(v))]
    if strange or not found:
        shown = ", ".join(strange[:5]) or "nothing"
        raise CheckpointError(f"{label} is no state dict: expected tensors by name, found {shown}")
    return dict(found)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file. Raises CheckpointError."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file that takes its place at ``path`` once it is complete.

    Further files may be made beside it; they go at the end.

    Raises:
        CheckpointError: the file cannot be written; what was at ``path`` is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sori-", dir=path.parent) as folder:
            made = Path(folder, "file")
            yield made
            os.replace(made, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def _unpickled(
    file: Path, tolerating: Callable[[Path], AbstractContextManager[None]] | None
) -> Any:  # noqa: ANN401
    if not zipfile.is_zipfile(file):  # What torch wrote before 1.6; it cannot be mapped.
        return torch.load(file, map_location="cpu", weights_only=True)
    with tolerating(file) if tolerating is not None else nullcontext():
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def _dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _cause(error: Exception) -> str:
    """Return the line of torch's message that says what was found, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line or "global" in line]
    text = (named or lines or [type(error).__name__])[0]
    return text if len(text) < 300 else f"{text[:300]}..."
