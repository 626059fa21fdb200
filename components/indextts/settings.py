"""What stock inference must be told, or cannot be told, of a model."""

from __future__ import annotations

import inspect

from components.models.unified_voice import UnifiedVoice

_SPEAKER, _EMOTION = "condition_module", "emo_condition_module"
_KEYS = {
    "dim": "model_dim",
    "layers": "layers",
    "heads": "heads",
    "text_vocab": "number_text_tokens",
    "text_start": "start_text_token",
    "text_stop": "stop_text_token",
    "max_text_tokens": "max_text_tokens",
    "max_semantic_tokens": "max_mel_tokens",
    "num_latents": "condition_num_latent",
    "speaker_dim": f"{_SPEAKER}.output_size",
    "speaker_layers": f"{_SPEAKER}.num_blocks",
    "speaker_heads": f"{_SPEAKER}.attention_heads",
    "speaker_feed_forward": f"{_SPEAKER}.linear_units",
    "emotion_dim": f"{_EMOTION}.output_size",
    "emotion_layers": f"{_EMOTION}.num_blocks",
    "emotion_heads": f"{_EMOTION}.attention_heads",
    "emotion_feed_forward": f"{_EMOTION}.linear_units",
}
"""Where its ``config.yaml`` has a setting, below ``gpt``."""
_FIXED = (
    "speaker_features",
    "emotion_features",
    "emotion_perceiver_dim",
    "kernel_size",
    "perceiver_layers",
    "perceiver_head_dim",
)
"""What its code fixes at the published value."""


def differences(model: UnifiedVoice) -> list[str]:
    """Return lines on what differs from the published model, and what that means for inference."""
    published = {
        name: parameter.default
        for name, parameter in inspect.signature(UnifiedVoice.__init__).parameters.items()
    }
    changed = {n: getattr(model, n) for n in published if n != "self"}
    changed = {n: value for n, value in changed.items() if value != published[n]}
    lines = [
        f"its config.yaml needs gpt.{key}: {changed[name]}"
        for name, key in _KEYS.items()
        if name in changed
    ]
    if "semantic_codes" in changed:
        codes = changed["semantic_codes"]
        found = {
            "number_mel_codes": codes + 2,
            "start_mel_token": codes,
            "stop_mel_token": codes + 1,
        }
        lines += [f"its config.yaml needs gpt.{key}: {value}" for key, value in found.items()]
    if "perceiver_expansion" in changed:
        value = changed["perceiver_expansion"]
        lines += [
            f"its config.yaml needs gpt.{m}.perceiver_mult: {value}" for m in (_SPEAKER, _EMOTION)
        ]
    return lines + [
        f"stock inference does not load it: {name} is {changed[name]}, and its code fixes "
        f"{published[name]}"
        for name in _FIXED
        if name in changed
    ]
