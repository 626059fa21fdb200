"""Files of NeMo weights: read without executing anything of them, written whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
import yaml
from torch import Tensor

from components.nemo.config import MOST_BYTES, read_config
from components.nemo.inert import settings_made_inert
from core.checkpoint.foreign import (
    PICKLES,
    SAFETENSORS,
    check_file,
    check_suffix,
    read_pickle,
    read_safetensors,
    written_whole,
)
from core.checkpoint.plain import flat_weights
from core.errors import CheckpointError

WEIGHTS = "model_weights.ckpt"
CONFIG = "model_config.yaml"
SUFFIXES = (".nemo", *PICKLES, SAFETENSORS)
MOST_MEMBERS = 100_000
MOST_WEIGHT_BYTES = 256 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file holds.

    Args:
        state: tensors by NeMo's names, on the CPU; mapped from the file where that is possible.
        config: the model's configuration; None where the file has none.
    """

    state: dict[str, Tensor]
    config: dict[str, Any] | None = None


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Read a ``.nemo`` archive, a torch checkpoint or a safetensors file.

    Archives are tar files, compressed or not; of their members two are read, by name, into a
    temporary folder under names of ours. Pickles are read with ``weights_only=True``: tensors and
    plain values, or a refusal; the settings beside them in a training checkpoint are passed over.

    Yields:
        The content; its tensors are to be copied inside the block, as their file goes at its end.

    Raises:
        CheckpointError: the file is missing, damaged, of an unknown form, holds more than plain
            data, or sizes that no model has.
    """
    check_file(path, SUFFIXES)
    if path.suffix == SAFETENSORS:
        yield Content(state=read_safetensors(path))
    elif path.suffix in PICKLES:
        yield Content(state=_read_pickle(path, label=str(path)))
    else:
        with tempfile.TemporaryDirectory(prefix="sori-nemo-") as folder:
            yield _read_archive(path, Path(folder))


def write(path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Write a state dict in the form that the suffix says; return that form in words.

    An existing file is replaced once the new one is complete.

    Raises:
        CheckpointError: the suffix is unknown, or the file cannot be written.
    """
    check_suffix(path, SUFFIXES)
    tensors = flat_weights(state, path="state")
    with written_whole(path) as made:
        if path.suffix == SAFETENSORS:
            safetensors.torch.save_file(tensors, made, metadata={"format": "pt"})
        elif path.suffix in PICKLES:
            torch.save({"state_dict": tensors}, made)
        else:
            _write_archive(made, tensors, config)
    return {".nemo": "NeMo archive", ".safetensors": "safetensors"}.get(
        path.suffix, "torch checkpoint with a state_dict"
    )


def _read_archive(path: Path, folder: Path) -> Content:
    try:
        with tarfile.open(path, "r:*") as archive:
            members = _wanted(archive, path)
            if WEIGHTS not in members:
                raise CheckpointError(
                    f"{path}: holds no {WEIGHTS}; archives of sharded weights are not read"
                )
            config = None
            if CONFIG in members:
                _copy(archive, members[CONFIG], folder / CONFIG, path, MOST_BYTES)
                config = read_config(folder / CONFIG, label=f"{path}: {CONFIG}")
            _copy(archive, members[WEIGHTS], folder / WEIGHTS, path, MOST_WEIGHT_BYTES)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a NeMo archive, or damaged: {error}") from error
    return Content(state=_read_pickle(folder / WEIGHTS, label=f"{path}: {WEIGHTS}"), config=config)


def _wanted(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Return the members to read by their names, each of which may begin with ``./``."""
    found: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):
        if count >= MOST_MEMBERS:
            raise CheckpointError(f"{path}: has more than {MOST_MEMBERS} members; not read")
        name = member.name.removeprefix("./")
        if name not in (WEIGHTS, CONFIG):
            continue
        if name in found:
            raise CheckpointError(f"{path}: has {name} twice; which one counts is not defined")
        if not member.isreg():
            raise CheckpointError(f"{path}: {name} is a link or a device; expected a file")
        found[name] = member
    return found


def _copy(
    archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, path: Path, most: int
) -> None:
    room = min(most, shutil.disk_usage(target.parent).free)
    if member.size > room:
        raise CheckpointError(
            f"{path}: {member.name} declares {member.size:,} bytes; {room:,} can be read into "
            f"{target.parent}"
        )
    source: IO[bytes] | None = archive.extractfile(member)
    assert source is not None  # it is a regular file
    with source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if target.stat().st_size != member.size:
        raise CheckpointError(f"{path}: {member.name} is truncated")


def _read_pickle(file: Path, *, label: str) -> dict[str, Tensor]:
    return read_pickle(file, label=label, inside=("state_dict",), tolerating=settings_made_inert)


def _write_archive(made: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    weights, text = made.with_name(WEIGHTS), made.with_name(CONFIG)
    torch.save(dict(tensors), weights)
    text.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    with tarfile.open(made, "w:") as archive:
        for file in (text, weights):
            archive.add(file, arcname=f"./{file.name}", filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who wrote the file."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
