"""Weights in 4 bits by bitsandbytes: nf4 with double quantisation (Dettmers et al., 2023).

Left as they are: the output layer, the embeddings, and the projector, so that adapters on it merge
exactly into weights that were never rounded.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from components.speech_llm.packages import require

Quantization = Literal["none", "nf4"]
BLOCK = 64
"""Weights that share a scale."""
SCALES = 256
"""Scales that share a scale of their own."""


def kept_whole(projector: str) -> list[str]:
    """Return what is not quantised, as ``llm_int8_skip_modules`` wants it.

    A name there is compared with the start and the end of a full name, so the projector must be
    given in full. A list replaces the default one, so the output layer must be in it.
    """
    return ["lm_head", projector]


def nf4(*, projector: str) -> Any:  # noqa: ANN401
    """Return the ``BitsAndBytesConfig``."""
    require("bitsandbytes", "accelerate")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=kept_whole(projector),
    )


def keep_differentiable(model: nn.Module) -> int:
    """Keep 4-bit layers on CPU from repacking their weights; return how many there are.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a layer's weights in place the first time
    that it runs in evaluation mode without gradient. The packed form has no backward pass: from
    then on every gradient that should pass through the layer is zero, and nothing is raised.
    """
    import bitsandbytes as bnb

    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)
