"""Names of modules in files, some of them older than today's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from core.errors import CheckpointError

V = TypeVar("V")

BEFORE = "base_model.model."
"""What peft puts before the name of a module."""

_RENAMED = (
    (r"^language_model\.lm_head\b", "lm_head"),
    (r"^language_model(\.model)?\b", "model.language_model"),
    (r"^audio_tower\b", "model.audio_tower"),
    (r"^multi_modal_projector\b", "model.multi_modal_projector"),
)
"""Names of transformers 4, which published weights still have, and those of transformers 5."""

_FORMER = (
    ("language_model.lm_head", "lm_head"),
    ("language_model.model", "model.language_model"),
    ("audio_tower", "model.audio_tower"),
    ("multi_modal_projector", "model.multi_modal_projector"),
)
"""The same the other way."""

_ADAPTER = re.compile(r"\.lora_([AB])\.default\.")


def today(name: str) -> str:
    """Return what transformers 5 calls a module or tensor of a speech LLM."""
    for pattern, replacement in _RENAMED:
        renamed = re.sub(pattern, replacement, name)
        if renamed != name:
            return renamed
    return name


def before(name: str) -> str:
    """Return what transformers 4 called a module of today's name."""
    for former, now in _FORMER:
        if name == now or name.startswith(f"{now}."):
            return former + name.removeprefix(now)
    return name


def peft_today(key: str) -> str:
    """Return the key that peft saves today for one of an adapter's file."""
    key = _ADAPTER.sub(r".lora_\1.", key)
    return BEFORE + today(key.removeprefix(BEFORE)) if key.startswith(BEFORE) else key


def renamed(state: Mapping[str, V], *, source: str) -> tuple[dict[str, V], list[str]]:
    """Give an adapter's tensors today's names.

    Args:
        state: by the names of the file.
        source: for messages.

    Returns:
        The tensors, and a line on the names that were mapped, if any were.

    Raises:
        CheckpointError: two names mean the same tensor.
    """
    found: dict[str, V] = {}
    former: dict[str, str] = {}
    for key, value in state.items():
        name = peft_today(key)
        if name in found:
            raise CheckpointError(f"{source}: {key} and {former[name]} name the same tensor")
        found[name], former[name] = value, key
    old = [key for name, key in former.items() if key != name]
    if not old:
        return found, []
    now = peft_today(old[0])
    return found, [f"{len(old)} names are those of older libraries: {old[0]} is now {now}"]


def modules(keys: Iterable[str]) -> list[str]:
    """Return the modules that an adapter's tensors belong to, in order, without repetition."""
    found = (re.sub(r"\.lora_[AB]\.weight$", "", key.removeprefix(BEFORE)) for key in keys)
    return list(dict.fromkeys(found))
