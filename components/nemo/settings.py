"""A task's settings as NeMo's configuration has them, and how two configurations differ.

Weights of one shape can belong to different functions: whether what enters the layers is scaled,
which frames a convolution sees, how features are normalised. Only the configuration says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.nemo.architecture import architecture
from components.nemo.state import state_of

Sections = dict[str, dict[str, Any]]

_NORMALIZE = {"per_feature": "per_feature", "per_utterance": "all_features", "none": "NA"}

DEFAULTS: Sections = {
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
    "preprocessor": {"normalize": "per_feature", "preemph": 0.97, "log": True, "frame_splicing": 1},
}
"""What holds in NeMo where a configuration does not set it."""

TRAINING = frozenset(
    {"dropout", "dropout_pre_encoder", "dropout_att", "stochastic_depth_drop_prob", "dither"}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """Lines on settings that differ.

    Args:
        decisive: they make another function of weights of the same shapes.
        training: they matter in training alone.
    """

    decisive: list[str]
    training: list[str]


def differing(theirs: Mapping[str, Any], own: Sections) -> Differing:
    """Compare a NeMo configuration with a task's settings, as far as both say something.

    Args:
        theirs: the configuration's model section, interpolations included.
        own: from :func:`settings_of`.

    Settings that shapes show are left out: who compares shapes says more.
    """
    found = Differing(decisive=[], training=[])
    for section, values in own.items():
        given = theirs.get(section)
        if not isinstance(given, Mapping):
            continue
        known = DEFAULTS.get(section, {}) | {k: _resolved(theirs, v) for k, v in given.items()}
        _choose_context(known, values)
        for key, mine in values.items():
            if key in SHOWN or key not in known or not _readable(known[key]):
                continue
            other = _canonical(key, known[key], known)
            if other == _canonical(key, mine, values):
                continue
            option = f" (task.{OPTIONS[key]})" if key in OPTIONS else ""
            line = f"{section}.{key}: {other} in the file, {_canonical(key, mine, values)} here"
            (found.training if key in TRAINING else found.decisive).append(line + option)
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
        "window_size": features.window.numel() / rate,
        "window_stride": features.hop / rate,
        "window": "hann",
        "features": features.num_bins,
        "n_fft": features.n_fft,
        "preemph": features.pre_emphasis,
        "log": True,
        "frame_splicing": 1,
        "dither": features.dither,
        "pad_to": 0 if features.pad_to == 1 else features.pad_to,
        "pad_value": 0.0,
    }


def _canonical(key: str, value: Any, section: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return one form of what can be written in several."""
    if key == "normalize":
        return value if value in ("per_feature", "all_features") else "NA"
    if key == "preemph":
        return value or 0.0
    if key == "att_context_size":
        return [-1, -1] if value is None else list(value) if isinstance(value, list) else value
    if key == "att_context_style":
        context = _canonical("att_context_size", section.get("att_context_size"), section)
        return "regular" if context == [-1, -1] else value
    if key == "subsampling_conv_channels" and value == -1:
        return section.get("d_model")
    if key == "conv_context_size":
        size = section.get("conv_kernel_size", 1)
        return (
            [(size - 1) // 2] * 2
            if value is None
            else [size - 1, 0]
            if value == "causal"
            else value
        )
    return value


def _choose_context(theirs: dict[str, Any], mine: Mapping[str, Any]) -> None:
    """Of several contexts that a model was trained with, keep this model's if it is one of them."""
    several, wanted = theirs.get("att_context_size"), mine.get("att_context_size")
    if isinstance(several, list) and wanted in several:
        theirs["att_context_size"] = wanted


def _readable(value: Any) -> bool:  # noqa: ANN401
    return not (isinstance(value, str) and value.startswith(("${", "???")))


def _resolved(root: Mapping[str, Any], value: Any, depth: int = 4) -> Any:  # noqa: ANN401
    """Follow ``${model.section.key}`` to what stands there; leave what cannot be followed."""
    if depth == 0 or not (isinstance(value, str) and value.startswith("${") and value[-1] == "}"):
        return value
    node: Any = root
    for step in value[2:-1].removeprefix("model.").split("."):
        if not isinstance(node, Mapping) or step not in node:
            return value
        node = node[step]
    return _resolved(root, node, depth - 1)
