"""``adapter_config.json``: what an adapter computes, or why that is not computed here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.adapter_files.targets import Targets
from core.errors import CheckpointError

CONFIG = "adapter_config.json"

_READ = {
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "target_modules",
}
_ABOUT = {
    "auto_mapping",
    "eva_config",
    "base_model_name_or_path",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
"""What changes nothing that an adapter computes, once it was drawn."""
_PLAIN_INITS = (True, False, "gaussian", "orthogonal", "eva", None)
"""Ways to draw an adapter that leave the base as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """Settings of a low-rank adapter.

    Args:
        rank: of its matrices.
        alpha: numerator of its scale, ``alpha / rank``.
        dropout: in training.
        base: that it names as its base model; None if it names none.
        targets: which layers it is on.
    """

    rank: int
    alpha: float
    dropout: float
    base: str | None
    targets: Targets


def read_settings(folder: Path) -> AdapterSettings:
    """Read the settings of a peft folder.

    Raises:
        CheckpointError: the file is missing or damaged, or the adapter is no plain LoRA: each
            setting that would compute something else is named.
    """
    file = folder / CONFIG
    found = _object(file)
    kind = str(found.get("peft_type", "none"))
    if kind != "LORA":
        raise CheckpointError(f"{file}: peft_type is {kind}; expected LORA")
    other = [f"{name}={value!r}" for name, value in found.items() if _changes(name, value)]
    if found.get("bias", "none") != "none":
        other.append(f"bias={found['bias']!r}")
    if found.get("init_lora_weights", True) not in _PLAIN_INITS:
        other.append(f"init_lora_weights={found['init_lora_weights']!r}")
    if other:
        raise CheckpointError(f"{file} is no plain LoRA: {', '.join(other)} is not supported")
    try:
        rank, alpha = int(found["r"]), float(found["lora_alpha"])
        dropout = float(found.get("lora_dropout") or 0.0)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: r, lora_alpha and lora_dropout are needed") from error
    if rank < 1:
        raise CheckpointError(f"{file}: r is {rank}; expected 1 or more")
    try:
        targets = Targets.read(found)
    except (TypeError, ValueError, re.error) as error:
        raise CheckpointError(f"{file} does not say which layers it adapts: {error}") from error
    base = found.get("base_model_name_or_path")
    return AdapterSettings(
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        base=str(base) if base else None,
        targets=targets,
    )


def _changes(name: str, value: Any) -> bool:  # noqa: ANN401
    """Return whether a setting that is not read here is set to anything."""
    return name not in _READ | _ABOUT and bool(value)


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: a JSON {type(found).__name__}; expected an object")
    return found
