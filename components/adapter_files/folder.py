"""A peft folder: an adapter's tensors beside its settings."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from torch import Tensor

from components.adapter_files.names import renamed
from components.adapter_files.settings import CONFIG
from core.checkpoint.foreign import read_pickle, read_safetensors
from core.checkpoint.plain import flat_weights
from core.errors import CheckpointError

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


def is_adapter(folder: Path) -> bool:
    """Return whether a folder has an adapter's settings."""
    return (folder / CONFIG).is_file()


def check_adapter(folder: Path) -> None:
    """Raise CheckpointError unless a folder holds settings and tensors; say what is missing."""
    if not folder.is_dir():
        kind = "not a folder" if folder.exists() else "no such folder"
        raise CheckpointError(f"{folder}: {kind}; expected one with {CONFIG} and {WEIGHTS}")
    if not is_adapter(folder):
        raise CheckpointError(f"{folder} has no {CONFIG}; expected an adapter saved by peft")
    if not any((folder / name).is_file() for name in (WEIGHTS, PICKLED)):
        raise CheckpointError(f"{folder} has no {WEIGHTS}")


def read_adapter(folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read an adapter's tensors by today's names; lines on names that were mapped.

    Raises:
        CheckpointError: the folder holds no adapter, or its file is damaged or not plain data.
    """
    check_adapter(folder)
    file = folder / WEIGHTS
    if file.is_file():
        state = read_safetensors(file)
    else:
        state = read_pickle(folder / PICKLED, label=str(folder / PICKLED))
    return renamed(state, source=str(folder))


def write_weights(folder: Path, state: dict[str, Tensor]) -> None:
    """Write an adapter's tensors as peft does."""
    tensors = flat_weights(state, path="adapter")
    safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
