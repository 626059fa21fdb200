"""What a run ran on: revision, interpreter, packages, device."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "sori",
    "torch",
    "torchaudio",
    "triton",
    "numpy",
    "fiddle",
    "lhotse",
    "safetensors",
    "sentencepiece",
    "soundfile",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "aim",
)


def describe_environment() -> dict[str, Any]:
    """Return facts about this process for run headers, trackers and checkpoints. Never fails.

    ``git`` is None outside a repository or without git; ``cuda`` is None without a CUDA device;
    ``packages`` names those of the tested set that are installed.
    """
    return {
        "git": _git(Path(__file__).resolve().parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": _cuda(),
        "packages": _packages(),
    }


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the revision and whether tracked files differ from it."""
    revision = _run(folder, "rev-parse", "HEAD")
    changes = _run(folder, "status", "--porcelain", "--untracked-files=no")
    if revision is None or changes is None:
        return None
    return {"revision": revision, "dirty": bool(changes)}


def _run(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cuda() -> dict[str, Any] | None:
    try:
        if not torch.cuda.is_available():
            return None
        return {
            "device": torch.cuda.get_device_name(),
            "count": torch.cuda.device_count(),
            "version": torch.version.cuda,
        }
    except RuntimeError:
        return None


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
