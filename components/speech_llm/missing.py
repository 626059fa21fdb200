"""Where the files of a base model are, and one line that says which are missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from components.speech_llm.families import FAMILIES
from core.errors import CheckpointError, ConfigError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
WANTED = (
    CONFIG,
    "generation_config.json",
    "*processor_config.json",
    "chat_template*",
    "tekken.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Besides the weights; some repositories hold those a second time, in a form of their own."""


def locate(base: str, *, tokenizer_files: tuple[str, ...]) -> Path:
    """Return the folder of a base model: a folder itself, or an id in the hub's cache.

    An id that is not in the cache is downloaded, unless HF_HUB_OFFLINE is set.

    Args:
        base: folder, or id such as ``mistralai/Voxtral-Mini-3B-2507``.
        tokenizer_files: one of which must be there, once ``config.json`` is.

    Raises:
        CheckpointError: files are missing; one line says which, and where to put them.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        absent = missing_files(folder, tokenizer_files)
        if absent:
            raise CheckpointError(f"{folder} lacks {', '.join(absent)}; put them there")
        return folder
    if not is_id(base):
        raise CheckpointError(
            f"no folder {folder}; it must hold {', '.join(_everything(tokenizer_files))}"
        )
    return _from_hub(base, tokenizer_files)


def config_file(base: str) -> Path | None:
    """Return the ``config.json`` of a base that is on this machine; None if it is not."""
    folder: Path | None = Path(base).expanduser()
    if folder is not None and not folder.is_dir():
        folder = _cached(base) if is_id(base) else None
    found = folder / CONFIG if folder is not None else None
    return found if found is not None and found.is_file() else None


def read_config(file: Path) -> dict[str, object]:
    """Return a configuration as JSON. Raises ConfigError naming the file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise ConfigError(f"{file} names no model_type; expected the configuration of a speech LLM")
    return found


def missing_files(folder: Path, tokenizer_files: tuple[str, ...]) -> list[str]:
    """Return which files of a base model are not in a folder."""
    absent = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any((folder / name).is_file() for name in tokenizer_files):
        absent.append(_tokenizer(tokenizer_files))
    names = weight_names(folder)
    if not names:
        absent.append(f"{INDEX} with its shards (or {SINGLE})")
    return absent + [name for name in names if not (folder / name).is_file()]


def weight_names(folder: Path) -> list[str]:
    """Return the files that the weights are in, by the index; none if there are no weights."""
    index = folder / INDEX
    if not index.is_file():
        return [SINGLE] if (folder / SINGLE).is_file() else []
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is no index of safetensors files: {error}") from error


def _everything(tokenizer_files: tuple[str, ...]) -> list[str]:
    return [CONFIG, _tokenizer(tokenizer_files), f"{INDEX} with its shards (or {SINGLE})"]


def _tokenizer(files: tuple[str, ...]) -> str:
    """Return one of which files is wanted, and for which families where they differ in it."""
    if len(files) == 1:
        return files[0]
    titles = {
        file: [family.title for family in FAMILIES.values() if file in family.tokenizer_files]
        for file in files
    }
    return " or ".join(f"{file} (for {', '.join(named)})" for file, named in titles.items())


def is_id(base: str) -> bool:
    """Return whether a base is named by an id of the hub and not by a path."""
    return base.count("/") == 1 and not base.startswith((".", "/", "~"))


def _cached(base: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(base, local_files_only=True))
    except (OSError, ValueError):
        return None


def _from_hub(base: str, tokenizer_files: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, snapshot_download

    cached = _cached(base)
    absent = missing_files(cached, tokenizer_files) if cached else _everything(tokenizer_files)
    if cached and not absent:
        return cached
    reason = "HF_HUB_OFFLINE is set"
    if not _offline():
        patterns = [*WANTED, INDEX, "model*.safetensors"]
        try:
            folder = Path(snapshot_download(base, allow_patterns=patterns))
        except Exception as error:  # Hub, network and TLS libraries raise types of their own.
            reason = f"the download failed ({type(error).__name__})"
        else:
            absent = missing_files(folder, tokenizer_files)
            if not absent:
                return folder
            reason = "its repository does not have them"
    raise CheckpointError(
        f"{base} is not on this machine: {', '.join(absent)} not in {constants.HF_HUB_CACHE}, and "
        f"{reason}; put them into a folder and name it (base=FOLDER), or into that cache"
    )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("TRANSFORMERS_OFFLINE") == "1"
