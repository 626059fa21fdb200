"""NeMo's settings: their defaults, what they decide, and where they are set here."""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, dict[str, Any]] = {
    "encoder": {
        "subsampling": "striding",
        "subsampling_factor": 4,
        "causal_downsampling": False,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "att_context_size": None,
        "att_context_style": "regular",
        "xscaling": True,
        "use_bias": True,
        "conv_kernel_size": 31,
        "conv_norm_type": "batch_norm",
        "conv_context_size": None,
    },
    "preprocessor": {
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_stride": 0.01,
        "window": "hann",
        "lowfreq": 0,
        "highfreq": None,
        "preemph": 0.97,
        "mag_power": 2.0,
        "log": True,
        "log_zero_guard_type": "add",
        "log_zero_guard_value": 2.0**-24,
        "frame_splicing": 1,
    },
}
"""What holds in NeMo where a configuration does not set it."""

TRAINING = frozenset(
    {"dropout", "dropout_pre_encoder", "dropout_att", "dropout_emb", "stochastic_depth_drop_prob"}
    | {"dither", "untie_biases"}
    | {"block_size", "mask_prob", "allow_overlap", "max_mask_ratio", "freeze", "pad_to"}
)
"""Settings that do not change what a trained model computes of real frames."""

SHOWN = frozenset(
    {"n_layers", "d_model", "n_heads", "ff_expansion_factor", "use_bias", "conv_kernel_size"}
    | {"subsampling", "subsampling_factor", "subsampling_conv_channels", "conv_norm_type"}
    | {"feat_in", "features", "n_fft", "window_size", "num_books", "num_classes", "code_dim"}
)
"""Settings that the shapes of tensors show."""

OPTIONS = {
    "n_layers": "encoder.layers",
    "d_model": "encoder.dim",
    "n_heads": "encoder.heads",
    "ff_expansion_factor": "encoder.feed_forward_expansion",
    "use_bias": "encoder.bias",
    "xscaling": "encoder.scale_input",
    "subsampling": "encoder.subsampling_method",
    "subsampling_factor": "encoder.subsampling",
    "subsampling_conv_channels": "encoder.subsampling_channels",
    "causal_downsampling": "encoder.causal_subsampling",
    "conv_kernel_size": "encoder.kernel_size",
    "conv_norm_type": "encoder.conv_norm",
    "conv_context_size": "encoder.conv_context",
    "att_context_size": "encoder.attention_context",
    "att_context_style": "encoder.attention_context_style",
    "features": "features.num_bins",
    "normalize": "features.normalization",
    "window_size": "features.window_seconds",
    "window_stride": "features.hop_seconds",
    "lowfreq": "features.min_frequency",
    "highfreq": "features.max_frequency",
    "preemph": "features.pre_emphasis",
    "dither": "features.dither",
    "sample_rate": "features.sample_rate",
    "n_fft": "features.n_fft",
    "pad_to": "features.pad_to",
    "num_books": "quantizer.num_books",
    "num_classes": "quantizer.codebook_size",
    "code_dim": "quantizer.code_dim",
    "combine_time_steps": "quantizer.stack",
}
"""Where a setting of NeMo's is set here, as a path in the task."""
