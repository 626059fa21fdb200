"""Names of tensors in checkpoints of IndexTTS2 and of those who trained it further."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import CheckpointError

_WRAPPERS = (
    (re.compile(r"^(?:module\.|base_model\.model\.)+"), "module."),
    (re.compile(r"(?<![^.])_orig_mod\."), "_orig_mod."),
    (re.compile(r"(?<=\.)base_layer\."), "base_layer."),
)
"""What parallel training, torch.compile and adapters put into names."""

_ASIDE = (
    (
        re.compile(r"gpt\.h\.\d+\.(?:attn|crossattention)\.(?:bias|masked_bias)"),
        "causal masks of older transformers, which are no weights",
    ),
    (
        re.compile(r"gpt\.(?:wte|wpe)\..+"),
        "tables of GPT-2 that the model does not read; inference puts mel_embedding there",
    ),
    (
        re.compile(r"(?:inference_model|ds_engine)\..+"),
        "second names that inference gives to the GPT",
    ),
    (
        re.compile(r"(?:.+\.)?lora_.+"),
        "factors of an adapter that was not merged: what it learnt is lost",
    ),
    (
        re.compile(r"(?:.+\.)?speaker_classifier\..+"),
        "the speaker classifier of a former training",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The tensors of a file by the published names.

    Args:
        state: by published name.
        aside: names in the file that are known not to be needed, and why.
        notes: which names were changed.
    """

    state: dict[str, Tensor]
    aside: dict[str, str]
    notes: tuple[str, ...]


def published_names(state: Mapping[str, Tensor], *, source: str) -> Named:
    """Strip what wrappers add to names, and put aside what is no weight of the model.

    Raises:
        CheckpointError: two tensors that differ have the same name then.
    """
    found: dict[str, Tensor] = {}
    aside: dict[str, str] = {}
    changes: Counter[str] = Counter()
    for original, tensor in state.items():
        name = original
        for pattern, label in _WRAPPERS:
            name, count = pattern.subn("", name)
            changes[label] += bool(count)
        reason = next((why for pattern, why in _ASIDE if pattern.fullmatch(name)), None)
        if reason is not None:
            aside[original] = reason
        elif name not in found:
            found[name] = tensor
        elif _same(found[name], tensor):
            aside[original] = "there a second time, with the same values"
        else:
            raise CheckpointError(
                f"{source} has {name} twice, with other values; which one counts is not defined"
            )
    notes = tuple(f"'{label}' left out of {n} names" for label, n in changes.items() if n)
    return Named(state=found, aside=aside, notes=notes)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
