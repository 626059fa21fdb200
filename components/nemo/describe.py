"""The configuration that an archive carries: written from a task, and read for its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.nemo.compare import model_section, version_of
from components.nemo.settings import Sections, settings_of

_MODULES = "nemo.collections.asr.modules"
_CLASSES = {
    "preprocessor": f"{_MODULES}.AudioToMelSpectrogramPreprocessor",
    "masking": f"{_MODULES}.RandomBlockMasking",
    "quantizer": f"{_MODULES}.RandomProjectionVectorQuantizer",
    "encoder": f"{_MODULES}.ConformerEncoder",
}
_MODEL = "nemo.collections.asr.models.ssl_models.EncDecDenoiseMaskedTokenPredModel"
_NEW_FEATURES = (2, 5)
"""NeMo's version from which on features and subsampling are what they are now."""
_PAD_TO = 16
"""NeMo's own ``pad_to``."""
_MOST_PADDING = 1 << 16


def configuration(task: nn.Module) -> dict[str, Any]:
    """Return a model configuration of NeMo's that describes a task.

    A pre-training task gives what NeMo's model for it is made of, without data and optimizer; of
    any other task it has the sections that NeMo has words for. What it has none for is in
    :func:`components.nemo.unmatched.unmatched`.
    """
    found: dict[str, Any] = {}
    sections = settings_of(task)
    if "preprocessor" in sections:
        found["sample_rate"] = sections["preprocessor"]["sample_rate"]
        sections["preprocessor"]["pad_to"] = padding_for_stacks(sections)
    for section, values in sections.items():
        found[section] = {"_target_": _CLASSES[section], **values}
    if {"quantizer", "masking", "encoder", "preprocessor"} <= sections.keys():
        found |= _whole_model(task, sections)
    return found


def padding_for_stacks(sections: Sections) -> int:
    """Return ``pad_to`` of a preprocessor: the task's own, unless stacks would be left incomplete.

    Sori's quantizer completes the last stack of frames itself, NeMo's cannot.
    """
    own: int = sections["preprocessor"]["pad_to"]
    stack: int = sections.get("quantizer", {}).get("combine_time_steps", 1)
    if stack == 1 or (own > 0 and own % stack == 0):
        return own
    return _PAD_TO if _PAD_TO % stack == 0 else stack


def history(config: Mapping[str, Any], task: nn.Module) -> list[str]:
    """Return notes on how the NeMo version that wrote an archive computes otherwise than a task.

    Before 2.5 the subsampling did not mask padding, so how far features were padded reached the
    last frames of an utterance.
    """
    version = version_of(config)
    if version is None:
        return []
    old = version < _NEW_FEATURES
    features, encoder = getattr(task, "features", None), getattr(task, "encoder", None)
    edges = "reflect" if old else "zeros"
    wanted: list[str] = []
    if isinstance(features, LogMel):
        if features.edges != edges:
            wanted.append(f"task.features.edges={edges}")
        if old and features.pad_to != (pad_to := _padding_of(config)):
            wanted.append(f"task.features.pad_to={pad_to}")
    if isinstance(encoder, ConformerEncoder) and encoder.subsample.masked == old:
        wanted.append(f"task.encoder.mask_subsampling={str(not old).lower()}")
    if not wanted:
        return []
    return [
        f"written by NeMo {version[0]}.{version[1]}, which computes features and subsampling "
        f"otherwise; equal to it with {' '.join(wanted)}"
    ]


def _padding_of(config: Mapping[str, Any]) -> int:
    section = model_section(config).get("preprocessor")
    found = section.get("pad_to") if isinstance(section, Mapping) else None
    return found if type(found) is int and 0 <= found <= _MOST_PADDING else _PAD_TO


def _whole_model(task: nn.Module, sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a pre-training model has beside its sections."""
    quantizer, encoder = sections["quantizer"], sections["encoder"]
    books, classes = quantizer["num_books"], quantizer["num_classes"]
    shared = {"num_classes": classes, "squeeze_single": False}
    return {
        "target": _MODEL,
        **shared,
        "num_books": books,
        "code_dim": quantizer["code_dim"],
        "mask_position": "pre_conv",
        "quantizer": {
            "_target_": _CLASSES["quantizer"],
            **quantizer,
            "dist_fn": "l2",
            "freeze": True,
            "squeeze_single": False,
        },
        "spec_augment": {
            "_target_": f"{_MODULES}.SpectrogramAugmentation",
            "freq_masks": 0,
            "time_masks": 0,
        },
        "decoder": {
            "_target_": f"{_MODULES}.MultiSoftmaxDecoder",
            "feat_in": encoder["d_model"],
            "num_decoders": books,
            "use_bias": getattr(task.head, "bias", None) is not None,
            **shared,
        },
        "loss": {
            "_target_": "nemo.collections.asr.losses.MultiMLMLoss",
            "combine_time_steps": quantizer["combine_time_steps"],
            "mask_threshold": getattr(task.loss, "mask_threshold", 0.8),
            "num_decoders": books,
            "squeeze_single": False,
        },
    }
