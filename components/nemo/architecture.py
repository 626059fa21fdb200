"""What a state dict's shapes say of the settings that it was made with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_FIRST = "encoder.layers.0."


def architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return settings by their paths in a task, such as ``encoder.layers``.

    What the shapes do not decide is left out: the method of a subsampling by 2, the bins of an
    encoder whose features are not known.

    Args:
        state: tensors by the names of a task; the features' buffers may be among them.
    """
    found = _subsampling(state) | _blocks(state)
    embedding, filters = state.get("masking.embedding"), state.get("features.filters")
    if embedding is not None or filters is not None:
        bins = embedding.shape[0] if embedding is not None else _second(filters)
        found["features.num_bins"] = bins
        found |= _causality(state, bins, found.get("encoder.subsampling"))
    codebooks, projection = state.get("quantizer.codebooks"), state.get("quantizer.projection")
    if codebooks is not None:
        found["quantizer.num_books"] = codebooks.shape[0]
        found["quantizer.codebook_size"] = codebooks.shape[1]
        found["quantizer.code_dim"] = codebooks.shape[2]
    if (head := state.get("head.weight")) is not None and head.ndim == 3:
        found["head.use_bias"] = "head.bias" in state
    width = found.get("features.num_bins")
    if projection is not None and width and projection.shape[1] % width == 0:
        found["quantizer.stack"] = projection.shape[1] // width
    return found


def _subsampling(state: Mapping[str, Tensor]) -> dict[str, Any]:
    prefix = "encoder.subsample.stages."
    stages = {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    if not stages:
        return {}
    found: dict[str, Any] = {"encoder.subsampling": 2 ** len(stages)}
    if len(stages) > 1:
        separable = f"{prefix}1.0.weight" in state
        found["encoder.subsampling_method"] = "dw_striding" if separable else "conv2d"
    if f"{prefix}0.weight" in state:
        found["encoder.subsampling_channels"] = state[f"{prefix}0.weight"].shape[0]
    return found


def _blocks(state: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = {match[1] for name in state if (match := _LAYER.match(name))}
    found: dict[str, Any] = {"encoder.layers": len(layers)} if layers else {}
    norm = state.get(f"{_FIRST}norm_out.weight")
    if norm is None:
        return found
    dim = found["encoder.dim"] = norm.shape[0]
    hidden = state.get(f"{_FIRST}feed_forward1.linear1.weight")
    if hidden is not None and hidden.shape[0] % dim == 0:
        found["encoder.feed_forward_expansion"] = hidden.shape[0] // dim
        found["encoder.bias"] = f"{_FIRST}feed_forward1.linear1.bias" in state
    if (content := state.get(f"{_FIRST}attention.content_bias")) is not None:
        found["encoder.heads"] = content.shape[0]
    if (depthwise := state.get(f"{_FIRST}convolution.depthwise.weight")) is not None:
        found["encoder.kernel_size"] = depthwise.shape[-1]
    if f"{_FIRST}convolution.norm.weight" in state:
        batch = f"{_FIRST}convolution.norm.running_var" in state
        found["encoder.conv_norm"] = "batch_norm" if batch else "layer_norm"
    return found


def _causality(state: Mapping[str, Tensor], bins: int, factor: int | None) -> dict[str, Any]:
    """Return whether the subsampling is causal, which leaves it other bins in most cases."""
    out = state.get("encoder.subsample.out.weight")
    first = state.get("encoder.subsample.stages.0.weight")
    if out is None or first is None or factor is None:
        return {}
    centred = causal = bins
    for _ in range(factor.bit_length() - 1):
        centred, causal = (centred + 1) // 2, causal // 2 + 1
    left = out.shape[1] / first.shape[0]
    if centred == causal or left not in (centred, causal):
        return {}
    return {"encoder.causal_subsampling": left == causal}


def _second(tensor: Tensor | None) -> int:
    assert tensor is not None
    return int(tensor.shape[1])
