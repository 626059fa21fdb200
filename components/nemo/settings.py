"""A task's settings as NeMo's configuration has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LOG_GUARD, LogMel
from components.nemo.architecture import architecture
from components.nemo.state import state_of

Sections = dict[str, dict[str, Any]]

_NORMALIZE = {"per_feature": "per_feature", "per_utterance": "all_features", "none": "NA"}


def settings_of(task: nn.Module) -> Sections:
    """Return what a task is, in the sections and words of a NeMo configuration.

    Parts that NeMo has no words for are left out.
    """
    shapes = architecture(state_of(task))
    found: Sections = {}
    features = getattr(task, "features", None)
    if isinstance(features, LogMel):
        found["preprocessor"] = _preprocessor(features)
    encoder = getattr(task, "encoder", None)
    if isinstance(encoder, ConformerEncoder):
        found["encoder"] = _encoder(encoder, shapes)
    if "quantizer.num_books" in shapes:
        found["quantizer"] = {
            "feat_in": shapes["features.num_bins"],
            "code_dim": shapes["quantizer.code_dim"],
            "num_books": shapes["quantizer.num_books"],
            "num_classes": shapes["quantizer.codebook_size"],
            "combine_time_steps": shapes["quantizer.stack"],
        }
    masking = getattr(task, "masking", None)
    names = ("block_size", "mask_prob", "allow_overlap", "max_mask_ratio", "freeze")
    if masking is not None and all(hasattr(masking, name) for name in names):
        found["masking"] = {name: getattr(masking, name) for name in names}
        found["masking"]["feat_in"] = shapes["features.num_bins"]
    return found


def _encoder(encoder: ConformerEncoder, shapes: Mapping[str, Any]) -> dict[str, Any]:
    options, context = encoder.block_options, encoder.attention_context
    method = shapes.get("encoder.subsampling_method", "dw_striding")
    around = options.conv_context
    return {
        "feat_in": shapes.get("features.num_bins"),
        "feat_out": -1,
        "n_layers": encoder.depth,
        "d_model": options.dim,
        "use_bias": options.bias,
        "subsampling": "striding" if method == "conv2d" else method,
        "subsampling_factor": encoder.subsampling,
        "subsampling_conv_channels": shapes.get("encoder.subsampling_channels"),
        "causal_downsampling": encoder.causal_subsampling,
        "ff_expansion_factor": options.feed_forward_dim // options.dim,
        "self_attention_model": "rel_pos",
        "n_heads": options.heads,
        "att_context_size": [-1, -1] if context is None else list(context),
        "att_context_style": encoder.attention_context_style,
        "xscaling": encoder.input_scale != 1.0,
        "untie_biases": True,
        "conv_kernel_size": options.kernel_size,
        "conv_norm_type": options.conv_norm,
        "conv_context_size": list(around) if isinstance(around, tuple) else _CONTEXTS[around],
        "dropout": options.dropout,
        "dropout_pre_encoder": encoder.dropout.probability,
        "dropout_emb": 0.0,
        "dropout_att": options.attention_dropout,
        "stochastic_depth_drop_prob": encoder.layer_drop,
    }


_CONTEXTS = {"centred": None, "causal": "causal"}


def _preprocessor(features: LogMel) -> dict[str, Any]:
    rate = features.sample_rate
    return {
        "sample_rate": rate,
        "normalize": _NORMALIZE[features.normalization],
        "window_size": _seconds(features.window.numel(), rate),
        "window_stride": _seconds(features.hop, rate),
        "window": "hann",
        "features": features.num_bins,
        "n_fft": features.n_fft,
        "lowfreq": features.min_frequency,
        "highfreq": features.max_frequency,
        "preemph": features.pre_emphasis,
        "mag_power": 2.0,
        "log": True,
        "log_zero_guard_type": "add",
        "log_zero_guard_value": LOG_GUARD,
        "frame_splicing": 1,
        "dither": features.dither,
        "pad_to": 0 if features.pad_to == 1 else features.pad_to,
        "pad_value": 0.0,
    }


def _seconds(count: int, rate: int) -> float:
    """Return a duration of which NeMo, which rounds down, makes ``count`` samples again."""
    seconds = count / rate
    return seconds if int(seconds * rate) == count else math.nextafter(seconds, math.inf)
