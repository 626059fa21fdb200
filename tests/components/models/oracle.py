"""The published equations once more, in float64 NumPy with loops, for one utterance alone.

Weights are looked up by their published names, so that a module whose names are exchanged fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def weights_of(module: nn.Module) -> dict[str, Array]:
    return {n: t.detach().double().numpy() for n, t in module.state_dict().items()}


def under(weights: Weights, prefix: str) -> dict[str, Array]:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def linear(x: Array, weights: Weights, name: str) -> Array:
    bias = weights.get(f"{name}.bias", np.zeros(1))
    return x @ weights[f"{name}.weight"].T + bias


def layer_norm(x: Array, weights: Weights, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def sinusoid(position: int, column: int, dim: int) -> float:
    angle = position * math.exp(-math.log(10000.0) * (column - column % 2) / dim)
    return math.cos(angle) if column % 2 else math.sin(angle)


def conditioner(features: Array, weights: Weights, *, layers: int) -> Array:
    """Map (T, F) to (T', D)."""
    x = subsampled(features, weights)
    dim = x.shape[1]
    table = np.array([[sinusoid(p, c, dim) for c in range(dim)] for p in range(len(x))])
    for layer in range(layers):
        own = under(weights, f"encoders.{layer}.")
        x = x + position_attention(layer_norm(x, own, "norm_mha"), table, under(own, "self_attn."))
        x = x + convolution(layer_norm(x, own, "norm_conv"), under(own, "conv_module."))
        hidden = linear(layer_norm(x, own, "norm_ff"), own, "feed_forward.w_1")
        x = x + linear(hidden * sigmoid(hidden), own, "feed_forward.w_2")
        x = layer_norm(x, own, "norm_final")
    return layer_norm(x, weights, "after_norm")


def subsampled(features: Array, weights: Weights) -> Array:
    kernel, bias = weights["embed.conv.0.weight"], weights["embed.conv.0.bias"]
    frames, bins = (size - 1 for size in features.shape)
    rows = []
    for t in range(frames // 2):
        flat = [
            max(
                0.0,
                float((kernel[c, 0] * features[2 * t : 2 * t + 3, 2 * f : 2 * f + 3]).sum()) + b,
            )
            for c, b in enumerate(bias)
            for f in range(bins // 2)
        ]
        rows.append(flat)
    return linear(np.array(rows), weights, "embed.out.0") * math.sqrt(len(bias))


def position_attention(x: Array, table: Array, weights: Weights) -> Array:
    u, v = weights["pos_bias_u"], weights["pos_bias_v"]
    heads, width = u.shape
    query, key, value = (linear(x, weights, f"linear_{n}") for n in "qkv")
    position = linear(table, weights, "linear_pos")
    out = np.zeros_like(x)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for i in range(len(x)):
            scores = np.array(
                [
                    (query[i, own] + u[head]) @ key[j, own]
                    + (query[i, own] + v[head]) @ position[j, own]
                    for j in range(len(x))
                ]
            )
            out[i, own] = softmax(scores / math.sqrt(width)) @ value[:, own]
    return linear(out, weights, "linear_out")


def convolution(x: Array, weights: Weights) -> Array:
    x = x @ weights["pointwise_conv1.weight"][:, :, 0].T + weights["pointwise_conv1.bias"]
    values, gates = np.split(x, 2, axis=1)
    x = values * sigmoid(gates)
    kernel, bias = weights["depthwise_conv.weight"][:, 0], weights["depthwise_conv.bias"]
    size = kernel.shape[1]
    out = np.tile(bias, (len(x), 1))
    for t in range(len(x)):
        for k in range(size):
            source = t + k - size // 2
            if 0 <= source < len(x):
                out[t] += kernel[:, k] * x[source]
    out = layer_norm(out, weights, "norm")
    out = out * sigmoid(out)
    return out @ weights["pointwise_conv2.weight"][:, :, 0].T + weights["pointwise_conv2.bias"]


def resampler(frames: Array, weights: Weights, *, layers: int, heads: int) -> Array:
    """Map (T, C) to (L, D)."""
    if "proj_context.weight" in weights:
        frames = linear(frames, weights, "proj_context")
    latents = weights["latents"]
    for layer in range(layers):
        own = under(weights, f"layers.{layer}.")
        latents = latents + latent_attention(latents, frames, under(own, "0."), heads)
        values, gates = np.split(linear(latents, own, "1.0"), 2, axis=1)
        erf = np.vectorize(math.erf)
        latents = latents + linear(
            values * gates * 0.5 * (1 + erf(gates / math.sqrt(2))), own, "1.2"
        )
    norms = np.sqrt((latents**2).sum(-1, keepdims=True))
    return latents / norms * math.sqrt(latents.shape[1]) * weights["norm.gamma"]


def latent_attention(latents: Array, frames: Array, weights: Weights, heads: int) -> Array:
    keys = np.concatenate([latents, frames])
    query = linear(latents, weights, "to_q")
    key, value = np.split(linear(keys, weights, "to_kv"), 2, axis=1)
    width = query.shape[1] // heads
    out = np.zeros_like(query)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for i in range(len(latents)):
            scores = np.array([query[i, own] @ key[j, own] for j in range(len(keys))])
            out[i, own] = softmax(scores / math.sqrt(width)) @ value[:, own]
    return linear(out, weights, "to_out")


def gpt(x: Array, weights: Weights, *, layers: int, heads: int) -> Array:
    """Map (N, D) to (N, D). The layers of GPT-2 store their weights as (inputs, outputs)."""

    def layer(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    for index in range(layers):
        name = f"h.{index}"
        query, key, value = np.split(
            layer(layer_norm(x, weights, f"{name}.ln_1"), f"{name}.attn.c_attn"), 3, axis=1
        )
        width = x.shape[1] // heads
        out = np.zeros_like(x)
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            for i in range(len(x)):
                scores = key[: i + 1, own] @ query[i, own] / math.sqrt(width)
                out[i, own] = softmax(scores) @ value[: i + 1, own]
        x = x + layer(out, f"{name}.attn.c_proj")
        hidden = layer(layer_norm(x, weights, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        inner = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        x = x + layer(0.5 * hidden * (1 + np.tanh(inner)), f"{name}.mlp.c_proj")
    return layer_norm(x, weights, "ln_f")
