"""The Conformer encoder, frame by frame in float64: one utterance at a time, loops for everything.

An independent second form to test the encoder against. It shares only the names of the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SlowConformer:
    """Evaluate an encoder's weights.

    Args:
        weights: the encoder's state dict, in float64.
        settings: the arguments of ``ConformerEncoder`` that are not at their defaults.
    """

    weights: dict[str, Array]
    settings: dict[str, Any]

    def __call__(self, features: Array, length: int) -> Array:
        """Map (T, F), of which ``length`` frames are real, to the real output frames (L, D)."""
        x, length = self.subsample(features, length)
        if self.settings.get("scale_input", False):
            x = x * math.sqrt(x.shape[1])
        for layer in range(self.settings["layers"]):
            x = self.block(f"layers.{layer}.", x, length)
        return x[:length]

    def subsample(self, features: Array, length: int) -> tuple[Array, int]:
        causal = self.settings.get("causal_subsampling", False)
        masked = self.settings.get("mask_subsampling", True)
        stages = {2: 1, 4: 2, 8: 3}[self.settings.get("subsampling", 4)]
        separable = self.settings.get("subsampling_method", "conv2d") == "dw_striding"
        x = features[None]  # (C, T, F)
        for stage in range(stages):
            if masked:
                x = zeroed(x, length)
            name = f"subsample.stages.{stage}."
            if separable and stage > 0:
                x = self.strided(f"{name}0.", x, causal, depthwise=True)
                length = length // 2 + 1 if causal else (length - 1) // 2 + 1
                if masked:
                    x = zeroed(x, length)
                x = self.pointwise(f"{name}1.", x)
            else:
                x = self.strided(name, x, causal, depthwise=False)
                length = length // 2 + 1 if causal else (length - 1) // 2 + 1
            x = np.maximum(x, 0.0)
        if masked:
            x = zeroed(x, length)
        channels, frames, bins = x.shape
        rows = [[x[c, t, f] for f in range(bins) for c in range(channels)] for t in range(frames)]
        return self.linear("subsample.out.", np.array(rows)), length

    def strided(self, name: str, x: Array, causal: bool, *, depthwise: bool) -> Array:
        before, after = (2, 1) if causal else (1, 1)
        kernel, bias = self.weights[f"{name}weight"], self.weights[f"{name}bias"]
        channels, frames, bins = x.shape
        wide = np.zeros((channels, frames + before + after, bins + before + after))
        wide[:, before : before + frames, before : before + bins] = x
        out_frames = (frames + before + after - 3) // 2 + 1
        out_bins = (bins + before + after - 3) // 2 + 1
        out = np.zeros((len(kernel), out_frames, out_bins))
        for c in range(len(kernel)):
            inputs = wide[c : c + 1] if depthwise else wide
            for t in range(out_frames):
                for f in range(out_bins):
                    seen = inputs[:, 2 * t : 2 * t + 3, 2 * f : 2 * f + 3]
                    out[c, t, f] = bias[c] + (kernel[c] * seen).sum()
        return out

    def pointwise(self, name: str, x: Array) -> Array:
        kernel, bias = self.weights[f"{name}weight"], self.weights[f"{name}bias"]
        out = np.zeros((len(kernel), *x.shape[1:]))
        for c in range(len(kernel)):
            out[c] = bias[c] + sum(kernel[c, k, 0, 0] * x[k] for k in range(len(x)))
        return out

    def block(self, name: str, x: Array, length: int) -> Array:
        x = x + 0.5 * self.feed_forward(f"{name}feed_forward1.", self.norm(name, 1, x))
        x = x + self.attention(f"{name}attention.", self.norm(name, "attention", x), length)
        x = x + self.convolution(f"{name}convolution.", self.norm(name, "convolution", x), length)
        x = x + 0.5 * self.feed_forward(f"{name}feed_forward2.", self.norm(name, 2, x))
        return self.norm(name, "out", x)

    def norm(self, name: str, which: str | int, x: Array) -> Array:
        place = f"feed_forward{which}" if isinstance(which, int) else which
        return self.layer_norm(f"{name}norm_{place}.", x)

    def layer_norm(self, name: str, x: Array) -> Array:
        out = [(row - row.mean()) / math.sqrt(row.var() + 1e-5) for row in x]
        return np.array(out) * self.weights[f"{name}weight"] + self.weights[f"{name}bias"]

    def linear(self, name: str, x: Array) -> Array:
        out: Array = x @ self.weights[f"{name}weight"].T
        return out + self.weights.get(f"{name}bias", 0.0)

    def feed_forward(self, name: str, x: Array) -> Array:
        return self.linear(f"{name}linear2.", silu(self.linear(f"{name}linear1.", x)))

    def attention(self, name: str, x: Array, length: int) -> Array:
        frames, dim = x.shape
        heads = self.settings["heads"]
        width = dim // heads
        query, key, value = np.split(self.linear(f"{name}qkv.", x), 3, axis=1)
        out = np.zeros_like(x)
        seen_by = self.visible(frames)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            content = self.weights[f"{name}content_bias"][head]
            place = self.weights[f"{name}position_bias"][head]
            for i in range(length):
                seen = [j for j in sorted(seen_by[i]) if j < length]
                scores = []
                for j in seen:
                    offset = (self.weights[f"{name}position.weight"] @ sinusoid(i - j, dim))[part]
                    score = (query[i, part] + content) @ key[j, part]
                    scores.append((score + (query[i, part] + place) @ offset) / math.sqrt(width))
                weights = np.exp(np.array(scores) - max(scores))
                weights /= weights.sum()
                for weight, j in zip(weights, seen, strict=True):
                    out[i, part] += weight * value[j, part]
        return self.linear(f"{name}out.", out)

    def visible(self, frames: int) -> list[set[int]]:
        """Return which frames each frame attends to."""
        left, right = self.settings.get("attention_context") or (-1, -1)
        left_of = frames if left == -1 else left
        right_of = frames if right == -1 else right
        if self.settings.get("attention_context_style", "regular") == "regular" or right == -1:
            return [
                {j for j in range(frames) if i - left_of <= j <= i + right_of}
                for i in range(frames)
            ]
        size = right + 1
        chunks = [set(range(start, start + size)) for start in range(0, frames, size)]
        seen = []
        for i in range(frames):
            number = next(n for n, chunk in enumerate(chunks) if i in chunk)
            first = 0 if left == -1 else max(0, number - left // size)
            seen.append(set().union(*chunks[first : number + 1]) & set(range(frames)))
        return seen

    def convolution(self, name: str, x: Array, length: int) -> Array:
        hidden = self.linear(f"{name}pointwise1.", x)
        dim = x.shape[1]
        gated = hidden[:, :dim] * sigmoid(hidden[:, dim:])
        kernel = self.weights[f"{name}depthwise.weight"][:, 0]
        size = kernel.shape[1]
        context = self.settings.get("conv_context", "centred")
        left = {"centred": size // 2, "causal": size - 1}.get(context, context[0])
        mixed = np.zeros_like(gated)
        for t in range(len(x)):
            for k in range(size):
                if 0 <= t - left + k < length:  # frames past the length are zero
                    mixed[t] += kernel[:, k] * gated[t - left + k]
        mixed = mixed + self.weights.get(f"{name}depthwise.bias", 0.0)
        if self.settings.get("conv_norm", "batch_norm") == "layer_norm":
            mixed = self.layer_norm(f"{name}norm.", mixed)
        else:
            mixed = self.batch_norm(f"{name}norm.", mixed)
        return self.linear(f"{name}pointwise2.", silu(mixed))

    def batch_norm(self, name: str, x: Array) -> Array:
        deviation = np.sqrt(self.weights[f"{name}running_var"] + 1e-5)
        out: Array = (x - self.weights[f"{name}running_mean"]) / deviation
        return out * self.weights[f"{name}weight"] + self.weights[f"{name}bias"]


def zeroed(x: Array, length: int) -> Array:
    """Return (C, T, F) with zeros past the length."""
    x = x.copy()
    x[:, length:] = 0.0
    return x


def sinusoid(offset: int, dim: int) -> Array:
    """Return the encoding of query minus key."""
    rates = [math.exp(-2 * i * math.log(10000.0) / dim) for i in range(dim // 2)]
    pairs = [[math.sin(offset * rate), math.cos(offset * rate)] for rate in rates]
    return np.array(pairs).reshape(-1)


def sigmoid(x: Array) -> Array:
    """Return the logistic function of each entry."""
    return 1.0 / (1.0 + np.exp(-x))


def silu(x: Array) -> Array:
    """Return each entry times its logistic function."""
    return x * sigmoid(x)
