"""What a task is and does that a NeMo model is not and does not."""

from __future__ import annotations

from torch import nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.nemo.settings import Sections

_SECTIONS = {"features": "preprocessor", "masking": "masking", "quantizer": "quantizer"}


def unmatched(task: nn.Module, sections: Sections) -> list[str]:
    """Return lines on settings that NeMo 2.5 to 2.7.3 has no counterpart for.

    A model that NeMo makes of the exported weights computes otherwise where one of them stands.

    Args:
        task: whose parameters exist.
        sections: from :func:`components.nemo.settings.settings_of`.
    """
    found = [
        f"task.{part} is a {type(module).__name__}, which NeMo does not have"
        for part, section in _SECTIONS.items()
        if section not in sections
        and isinstance(module := getattr(task, part, None), nn.Module)
        and any(True for _ in module.buffers()) | any(True for _ in module.parameters())
    ]
    features = getattr(task, "features", None)
    if isinstance(features, LogMel) and features.edges != "zeros":
        found.append(
            f"task.features.edges={features.edges}: NeMo hears silence beyond both ends of an "
            "utterance, and counts one frame less"
        )
    quantizer = getattr(task, "quantizer", None)
    if (norm := getattr(quantizer, "input_norm", "none")) != "none":
        found.append(
            f"task.quantizer.input_norm={norm}: NeMo projects stacked frames as they are, and "
            "finds other targets"
        )
    if getattr(getattr(task, "masking", None), "hide_all", False):
        found.append("task.masking.hide_all=true: NeMo hides drawn blocks alone")
    return found + _of_encoder(getattr(task, "encoder", None), quantizer is not None)


def _of_encoder(encoder: object, predicts_tokens: bool) -> list[str]:
    if not isinstance(encoder, ConformerEncoder):
        return []
    found: list[str] = []
    if not encoder.subsample.masked:
        found.append(
            "task.encoder.mask_subsampling=false: NeMo zeroes padding before every convolution of "
            "the subsampling; the last frames of an utterance differ"
        )
    if encoder.causal_subsampling and predicts_tokens:
        found.append(
            "task.encoder.causal_subsampling=true: NeMo encodes with it, but its pre-training "
            "fails as there are more frames than targets"
        )
    return found
