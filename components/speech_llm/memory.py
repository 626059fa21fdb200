"""Parameters of a base model, and what its weights take in each form, without reading any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from components.speech_llm.base import DEMO_BASE
from components.speech_llm.families import FAMILIES, Family, family_of
from components.speech_llm.lora import LoRA
from components.speech_llm.missing import config_file, read_config
from components.speech_llm.packages import require
from components.speech_llm.quantization import BLOCK, SCALES, kept_whole
from components.speech_llm.tiny import tiny_config
from core.errors import suggest

HEAD = "lm_head"
TOWER = "model.audio_tower"


def outline_lines(base: str, lora: LoRA) -> list[str]:
    """Return lines on the size of a base model with adapters: parameters, memory of the weights.

    The configuration is that of the base where it is on this machine, else the published one.

    Args:
        base: folder, or id on the hub.
        lora: adapters.
    """
    found = _configured(base)
    if found is None:
        ids = [name for family in FAMILIES.values() for name in family.published]
        return [f"{base} is not on this machine, so its size is not known; {suggest(base, ids)}"]
    config, family, source = found
    model = skeleton(config, family)
    total = sum(p.numel() for p in model.parameters())
    names = lora.names(model, projector=family.projector)
    added = sum(_added(model.get_submodule(name), lora.rank) for name in names)
    lines = [f"{base}: {family.title}, {source}", *_parts(model, family)]
    lines += [
        f"  {'all':<28}{total:>16,}",
        f"  {'trained (LoRA)':<28}{added:>16,}  rank {lora.rank} on {', '.join(names)}",
        "memory of the weights:",
    ]
    return lines + [f"  {label:<64}{size / 1e9:>7.3f} GB" for label, size in table(model, family)]


def skeleton(config: Any, family: Family) -> nn.Module:  # noqa: ANN401
    """Return the model on the meta device: shapes without memory."""
    require("transformers")
    import transformers

    with torch.device("meta"):
        made: nn.Module = getattr(transformers, family.model_class)(config)
    made.tie_weights()  # type: ignore[operator]
    return made


def table(model: nn.Module, family: Family) -> list[tuple[str, int]]:
    """Return a description and the bytes of the weights in each form that they may have."""
    head, default = [HEAD], kept_whole(family.projector)
    return [
        ("bf16 (quantization=none)", weight_bytes(model, quantized=False)),
        ("nf4", weight_bytes(model, whole=head, double=False)),
        ("nf4, double quantisation", weight_bytes(model, whole=head)),
        ("  with the projector whole (quantization=nf4)", weight_bytes(model, whole=default)),
        ("  with the encoder whole too", weight_bytes(model, whole=[*default, TOWER])),
        (
            "  with all that is whole in float32 (peft's k-bit preparation)",
            weight_bytes(model, whole=head, element=4),
        ),
    ]


def weight_bytes(
    model: nn.Module,
    *,
    quantized: bool = True,
    whole: Sequence[str] = (),
    double: bool = True,
    element: int = 2,
) -> int:
    """Return the bytes of a model's weights.

    Args:
        model: whose linear layers would be quantised.
        quantized: whether they are.
        whole: names of submodules in which they are not.
        double: whether the scales are quantised too.
        element: bytes of a weight that is not quantised.
    """
    packed = {
        id(module.weight): module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and quantized and not _below(name, whole)
    }
    exact = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    total = 0
    for name, parameter in model.named_parameters():
        if id(parameter) in packed:
            total += _packed_bytes(parameter.numel(), double=double)
        elif any(part in exact for part in name.split(".")):
            total += parameter.numel() * 4  # Loaded in float32 whatever the dtype.
        else:
            total += parameter.numel() * element
    return total


def held_bytes(model: nn.Module) -> int:
    """Return the bytes of a loaded model's parameters, the scales of 4-bit ones included."""
    total = 0
    for parameter in model.parameters():
        total += parameter.nbytes
        scales = getattr(parameter, "quant_state", None)
        while scales is not None:
            total += scales.absmax.nbytes
            scales = getattr(scales, "state2", None)
    return total


def _packed_bytes(weights: int, *, double: bool) -> int:
    blocks = -(-weights // BLOCK)
    scales = blocks + 4 * -(-blocks // SCALES) if double else 4 * blocks
    return -(-weights // 2) + scales


def _below(name: str, kept: Sequence[str]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in kept)


def _configured(base: str) -> tuple[Any, Family, str] | None:
    require("transformers")
    from transformers import AutoConfig

    if base == DEMO_BASE:
        family = FAMILIES["voxtral"]
        return tiny_config(), family, "made and trained on this machine when a run needs it"
    file = config_file(base)
    if file is not None:
        family = family_of(str(read_config(file)["model_type"]), source=base)
        config = AutoConfig.from_pretrained(file.parent, local_files_only=True)
        return config, family, f"as {file} says"
    for family in FAMILIES.values():
        if base in family.published:
            settings = dict(family.published[base])
            config = AutoConfig.for_model(family.model_type, **settings)
            return config, family, "as published; not on this machine"
    return None


def _parts(model: nn.Module, family: Family) -> list[str]:
    parts = [TOWER, family.projector, "model.language_model", HEAD]
    return [
        f"  {name:<28}{sum(p.numel() for p in model.get_submodule(name).parameters()):>16,}"
        for name in parts
    ]


def _added(layer: nn.Module, rank: int) -> int:
    return rank * (int(layer.in_features) + int(layer.out_features))  # type: ignore[arg-type]
