"""The configuration that an archive carries: written from a task, and read for its history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from components.nemo.settings import settings_of

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


def configuration(task: nn.Module) -> dict[str, Any]:
    """Return a model configuration of NeMo's that describes a task.

    A pre-training task gives one that NeMo can restore; of any other task it has the sections that
    NeMo has words for.
    """
    found: dict[str, Any] = {}
    sections = settings_of(task)
    if "preprocessor" in sections:
        found["sample_rate"] = sections["preprocessor"]["sample_rate"]
    for section, values in sections.items():
        found[section] = {"_target_": _CLASSES[section], **values}
    if {"quantizer", "masking", "encoder", "preprocessor"} <= sections.keys():
        found |= _whole_model(task, sections)
    return found


def history(config: Mapping[str, Any], task: nn.Module) -> list[str]:
    """Return notes on how the NeMo version that wrote an archive computed otherwise."""
    match = re.match(r"(\d+)\.(\d+)", str(config.get("nemo_version", "")))
    if match is None or (int(match[1]), int(match[2])) >= _NEW_FEATURES:
        return []
    wanted = []
    if getattr(getattr(task, "features", None), "edges", "reflect") != "reflect":
        wanted.append("task.features.edges=reflect")
    if getattr(getattr(getattr(task, "encoder", None), "subsample", None), "masked", False):
        wanted += ["task.features.pad_to=16", "task.encoder.mask_subsampling=false"]
    if not wanted:
        return []
    return [
        f"written by NeMo {match[0]}, which computed features and subsampling otherwise; equal to "
        f"it with {' '.join(wanted)}"
    ]


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
