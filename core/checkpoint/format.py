"""One checkpoint: a directory that is complete once it has its name.

========================  =======================================================================
``model.safetensors``     the weights alone; loads without Sori
``ema.safetensors``       averaged weights, where the run keeps them
``optimizer.pt``          state of the optimiser
``state.pt``              step, data position, random states, callbacks: what an exact resume needs
``assets/``               tokenizers and statistics that the run fitted
``config.json, .py, .txt``  the configuration
``meta.json``             written last: step, metrics, revision, size and SHA-256 of all the others
========================  =======================================================================

Reading executes nothing: safetensors and JSON are data, and ``.pt`` files are opened with
``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from core.checkpoint.atomic import publish, scratch, seal, sync_directory
from core.checkpoint.plain import flat_weights, plain, size_of
from core.errors import CheckpointError

FORMAT = 1
MODEL = "model.safetensors"
EMA = "ema.safetensors"
OPTIMIZER = "optimizer.pt"
STATE = "state.pt"
META = "meta.json"
ASSETS = "assets"
CONFIGS = ("config.json", "config.py", "config.txt")


def write_checkpoint(
    directory: Path,
    name: str,
    *,
    model: Mapping[str, Tensor],
    ema: Mapping[str, Tensor] | None,
    optimizer: Mapping[str, Any] | None,
    state: Mapping[str, Any],
    assets: Path | None,
    config_dir: Path | None,
    meta: Mapping[str, Any],
) -> Path:
    """Write a checkpoint under ``directory`` and return its path.

    It is filled under a temporary name, every file is synced, and it is renamed at the end. Killed
    at any instant, it leaves either all of it or a temporary directory that
    :func:`core.checkpoint.atomic.sweep` removes. An existing checkpoint of this name is replaced.

    Args:
        directory: where checkpoints live; created if missing.
        name: of the checkpoint.
        model: full (unsharded) weights by name.
        ema: averaged weights by name.
        optimizer: ``state_dict`` of the optimiser.
        state: what else a resume needs: tensors and plain values, see :func:`plain`.
        assets: folder to copy.
        config_dir: folder with ``config.json``, ``config.py`` and ``config.txt`` to copy.
        meta: JSON-able facts for ``meta.json``.

    Raises:
        CheckpointError: something cannot be stored, or the disk is full or not writable; nothing
            is left behind and earlier checkpoints are as they were.
    """
    weights = {MODEL: flat_weights(model, path="model")}
    if ema is not None:
        weights[EMA] = flat_weights(ema, path="ema")
    states = {STATE: plain(state, path="state")}
    if optimizer is not None:
        states[OPTIMIZER] = plain(optimizer, path="optimizer")
    needed = size_of(weights) + size_of(states)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_full_disk(directory, name, needed)
        with scratch(directory, name) as work:
            for file, tensors in weights.items():
                safetensors.torch.save_file(tensors, work / file, metadata={"format": "pt"})
            for file, values in states.items():
                with (work / file).open("wb") as stream:
                    torch.save(values, stream)
            _copy_folders(work, assets=assets, config_dir=config_dir)
            _write_meta(work, meta)
            publish(work, directory / name)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _cannot_write(directory, name, needed, str(error)) from error
    return directory / name


def verify(path: Path, *, hashes: bool = False, only: Collection[str] | None = None) -> None:
    """Check that a checkpoint is complete.

    Args:
        path: the checkpoint directory.
        hashes: also compare the SHA-256 of the content; otherwise names and sizes are compared.
        only: names of the files to check; None for all.

    Raises:
        CheckpointError: a file is missing, truncated or altered; the message names it.
    """
    for name, entry in read_meta(path)["files"].items():
        if only is not None and name not in only:
            continue
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{path}: {name} is missing")
        size = file.stat().st_size
        if size != entry["size"]:
            kind = "truncated" if size < entry["size"] else "too long"
            raise CheckpointError(
                f"{path}: {name} is {kind}: {size} bytes, expected {entry['size']}"
            )
        if hashes and _digest(file) != entry["sha256"]:
            raise CheckpointError(f"{path}: {name} was altered: its SHA-256 is not the one saved")


def read_meta(path: Path) -> dict[str, Any]:
    """Return ``meta.json``. Raises CheckpointError if it is missing, damaged or too new."""
    try:
        text = (path / META).read_text(encoding="utf-8")
    except FileNotFoundError:
        reason = "half-written" if path.is_dir() else "no such checkpoint"
        raise CheckpointError(f"{path}: {META} is missing ({reason})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: {META} cannot be read: {error}") from error
    try:
        meta: dict[str, Any] = json.loads(text)
        checksum = meta.pop("checksum")
    except (ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path}: {META} is damaged: {error!r}") from error
    if checksum != _checksum(meta):
        raise CheckpointError(f"{path}: {META} was altered: its checksum does not match")
    if meta["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {meta['format']}, written by a newer version; this one reads "
            f"up to {FORMAT}"
        )
    return meta


def read_model(path: Path) -> dict[str, Tensor]:
    """Return the weights on the CPU. Raises CheckpointError."""
    return _read_weights(path / MODEL)


def read_ema(path: Path) -> dict[str, Tensor]:
    """Return the averaged weights on the CPU. Raises CheckpointError if there are none."""
    return _read_weights(path / EMA)


def read_inference_model(path: Path) -> dict[str, Tensor]:
    """Return the weights to use a model with: the averaged ones if there are any."""
    return read_ema(path) if (path / EMA).exists() else read_model(path)


def read_optimizer(path: Path, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the state of the optimiser, its tensors on ``map_location``."""
    return _read_state(path / OPTIMIZER, map_location)


def read_state(path: Path) -> dict[str, Any]:
    """Return the state of the loop, its tensors on the CPU."""
    return _read_state(path / STATE, "cpu")


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _read_state(file: Path, map_location: torch.device | str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{file} holds more than tensors and plain values and was not loaded: {first}"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    return found


def _copy_folders(work: Path, *, assets: Path | None, config_dir: Path | None) -> None:
    if assets is not None and assets.is_dir():
        shutil.copytree(assets, work / ASSETS)
    if config_dir is not None:
        for name in CONFIGS:
            if (config_dir / name).is_file():
                shutil.copyfile(config_dir / name, work / name)


def _write_meta(work: Path, meta: Mapping[str, Any]) -> None:
    """Sync all files and directories of ``work`` and write what there is into ``meta.json``."""
    found: dict[str, dict[str, Any]] = {}
    for folder, _, names in os.walk(work, topdown=False):
        for name in sorted(names):
            file = Path(folder, name)
            digest = seal(file)
            label = file.relative_to(work).as_posix()
            found[label] = {"size": file.stat().st_size, "sha256": digest}
        sync_directory(Path(folder))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    content = {**meta, "format": FORMAT, "created": created, "files": dict(sorted(found.items()))}
    # The checksum is of what a reader gets back: JSON turns tuples into lists and keys into text.
    content = json.loads(json.dumps(content, default=str))
    content["checksum"] = _checksum(content)
    (work / META).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    seal(work / META)
    sync_directory(work)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse_full_disk(directory: Path, name: str, needed: int) -> None:
    if shutil.disk_usage(directory).free < needed:
        raise _cannot_write(directory, name, needed, "the disk is full")


def _cannot_write(directory: Path, name: str, needed: int, reason: str) -> CheckpointError:
    try:
        space = f"{_megabytes(shutil.disk_usage(directory).free)} are free"
    except OSError:
        space = "the free space is not known"
    return CheckpointError(
        f"cannot write checkpoint {name} into {directory}: {reason.strip()}. It needs about "
        f"{_megabytes(needed)} and {space}; earlier checkpoints are intact"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
