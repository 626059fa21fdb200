"""A base model as it is loaded: frozen, perhaps quantised, with its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from components.speech_llm.attention import Attention, AttentionChoice, choose_attention
from components.speech_llm.families import FAMILIES, Family, family_of
from components.speech_llm.missing import CONFIG, config_file, locate, read_config
from components.speech_llm.packages import quietly, require
from components.speech_llm.quantization import Quantization, keep_differentiable, nf4
from core.errors import CheckpointError

DEMO_BASE = "demo:adults"
"""Names the tiny model that the demo adapts, in place of a folder or an id."""
Precision = Literal["bf16", "float32"]
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Base:
    """A frozen speech LLM.

    Args:
        model: of transformers, without gradients.
        folder: that it was loaded from.
        family: that it is of.
        attention: that it computes with.
        quantized: layers in 4 bits.
    """

    model: Any
    folder: Path
    family: Family
    attention: AttentionChoice
    quantized: int


def find_base(base: str) -> tuple[Path, Family]:
    """Return folder and family of a base model. Raises CheckpointError and ConfigError.

    The demo's base is made where it is not there; see :mod:`components.speech_llm.demo_base`.
    """
    if base == DEMO_BASE:
        # Imported late: it trains through this module.
        from components.speech_llm.demo_base import ensure_demo_base

        base = str(ensure_demo_base())
    known = config_file(base)
    if known is not None:
        family = _family(known)
        return locate(base, tokenizer_files=family.tokenizer_files), family
    published = [family for family in FAMILIES.values() if base in family.published]
    files = tuple(
        dict.fromkeys(n for f in published or FAMILIES.values() for n in f.tokenizer_files)
    )
    folder = locate(base, tokenizer_files=files)
    return folder, _family(folder / CONFIG)


def load_base(
    base: str,
    *,
    quantization: Quantization = "none",
    attention: Attention = "auto",
    dtype: Precision = "bf16",
) -> Base:
    """Load a base model in evaluation mode, without gradients.

    It is on the CPU, for the caller to move. Quantising is done on the present CUDA device where
    there is one: on two CPU cores it would take minutes.

    Args:
        base: folder, or id on the hub.
        quantization: of linear layers outside the projector and the output layer.
        attention: implementation.
        dtype: of what is not quantised.

    Raises:
        CheckpointError: files are missing or damaged.
        ConfigError: the model is of no known family, or a package is missing.
    """
    folder, family = find_base(base)
    require("transformers")
    choice = choose_attention(attention, dtype=DTYPES[dtype])
    settings: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": choice.name}
    if quantization == "nf4":
        settings |= {
            "quantization_config": nf4(projector=family.projector),
            "device_map": {"": _quantising_device()},
        }
    model = _loaded(folder, family, settings)
    model.requires_grad_(requires_grad=False)
    quantized = 0
    if quantization == "nf4":
        model.to("cpu")
        torch.cuda.empty_cache()  # Nothing where there is no CUDA.
        quantized = keep_differentiable(model)
    return Base(
        model=model.eval(), folder=folder, family=family, attention=choice, quantized=quantized
    )


def _loaded(folder: Path, family: Family, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return the model of transformers, every weight of which came from the folder."""
    import transformers
    from safetensors import SafetensorError

    try:
        with quietly():
            model, found = getattr(transformers, family.model_class).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **settings,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder} cannot be loaded as {family.title}: {reason}") from error
    # Left to itself, transformers draws what it does not find, and warns.
    absent = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise CheckpointError(
            f"{folder} has no weights of the right shape for {', '.join(absent[:3])}{more}"
        )
    return model


def _quantising_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _family(file: Path) -> Family:
    return family_of(str(read_config(file)["model_type"]), source=str(file.parent))
