"""Which speech LLMs can be adapted, and in what they differ: one table.

A family has an encoder of chunks of 30 s, a projector of linear layers, and a language model that
takes the projector's rows in the place of audio tokens. What a family needs is here; nothing else
asks for a model by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigError, suggest

VOXTRAL_MINI = "mistralai/Voxtral-Mini-3B-2507"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models of one architecture.

    Args:
        model_type: in ``config.json``.
        title: for messages.
        model_class: of transformers.
        prompt: how the request for a transcript is written: ``mistral`` by mistral-common,
            ``chat`` by the processor's own chat template.
        languages: whether the prompt can name the language.
        masked: whether rows of padding are left out, so that a chunk's rows follow its audio; then
            ``mask_to_encoder`` says whether the encoder is told too.
        mask_to_encoder: whether the encoder takes a mask of frames.
        projector: submodule between encoder and language model.
        first_linear: of the projector; its width is that of a stored row.
        frames_per_chunk: that the encoder takes.
        tokenizer_files: one of which a folder must have.
        published: settings by id of models whose configuration transformers has as its default.
    """

    model_type: str
    title: str
    model_class: str
    prompt: Literal["mistral", "chat"]
    languages: bool
    masked: bool
    mask_to_encoder: bool = False
    projector: str = "model.multi_modal_projector"
    first_linear: str = "linear_1"
    frames_per_chunk: int = 3000
    tokenizer_files: tuple[str, ...] = ("tokenizer.json", "tekken.json")
    published: Mapping[str, Mapping[str, Any]]


FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            model_type="voxtral",
            title="Voxtral",
            model_class="VoxtralForConditionalGeneration",
            prompt="mistral",
            languages=True,
            masked=False,
            tokenizer_files=("tekken.json",),
            published={VOXTRAL_MINI: {"audio_token_id": 24}},
        ),
        Family(
            model_type="audioflamingo3",
            title="Audio Flamingo 3",
            model_class="AudioFlamingo3ForConditionalGeneration",
            prompt="chat",
            languages=False,
            masked=True,
            mask_to_encoder=True,
            published={},
        ),
        Family(
            model_type="glmasr",
            title="GLM-ASR",
            model_class="GlmAsrForConditionalGeneration",
            prompt="chat",
            languages=False,
            masked=True,
            published={},
        ),
    )
}

UNSUPPORTED: Mapping[str, str] = {
    "voxtral_realtime": (
        "it hears and writes at once, a token every 80 ms: its training needs the time of every "
        "word, which transcripts do not have"
    ),
    "qwen3_asr": (
        "its encoder takes whole recordings in windows of 8 s, not chunks of 30 s, so its features "
        "are not those that are stored here"
    ),
    "qwen2_audio": "transformers has no transcription request for it, and its projector is one layer",
    "granite_speech": "its projector is a Q-Former of 97 linear layers",
    "phi4_multimodal": "transformers has no transcription request for it",
}
"""Speech LLMs of transformers that cannot be adapted here, and what is missing."""


def family_of(model_type: str, *, source: str) -> Family:
    """Return the family of a model.

    Args:
        model_type: as its configuration says.
        source: of the configuration, for the message.

    Raises:
        ConfigError: it is of another kind; the message says what is missing, or what is nearest.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    supported = ", ".join(FAMILIES)
    if model_type in UNSUPPORTED:
        raise ConfigError(
            f"{source} is a '{model_type}', which cannot be adapted: {UNSUPPORTED[model_type]}; "
            f"supported are {supported}"
        )
    near = suggest(model_type, FAMILIES, noun="families")
    raise ConfigError(f"{source} is a '{model_type}', which is no speech LLM known here; {near}")
