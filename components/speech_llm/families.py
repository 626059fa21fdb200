"""Which speech LLMs can be adapted, and in what they differ: one table.

A family has an encoder of chunks of 30 s, a projector of linear layers, and a language model that
takes the projector's rows in the place of audio tokens. What a family needs is here; nothing else
asks for a model by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.errors import ConfigError, suggest

VOXTRAL_MINI = "mistralai/Voxtral-Mini-3B-2507"
FRAMES = 3000
"""Of a chunk of 30 s, 10 ms each."""


def _halved_and_pooled(frames: int) -> int:
    """Return the rows of Audio Flamingo 3: a convolution of stride 2, then means of pairs."""
    return max(((frames - 1) // 2 + 1) // 2, 0)


def _halved_and_joined(frames: int) -> int:
    """Return the rows of GLM-ASR: a convolution of stride 2, then four frames side by side."""
    return max(((frames - 1) // 2 + 1) // 4, 0)


def _eighths_of_seconds(frames: int) -> int:
    """Return the rows of Qwen3-ASR: each second on its own, through three strides of 2."""
    rest = frames % 100
    for _ in range(3):
        rest = (rest + 1) // 2
    return 13 * (frames // 100) + rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models of one architecture.

    Args:
        model_type: in ``config.json``.
        title: for messages.
        model_class: of transformers.
        prompt: how the request for a transcript is written: ``mistral`` by mistral-common,
            ``chat`` by the processor's own chat template.
        language: whether the prompt names the language: it may, it must, or it has no place.
        rows_of: frames that hear audio to rows of a chunk, where rows of padding are left out;
            None where a chunk has all its rows, whatever it holds.
        masked: whether the encoder is told which frames hear audio.
        least_frames: that count as audio, however short it is.
        max_chunks: of an utterance; None for any number. Where features of longer audio are
            computed otherwise than those of :class:`~components.features.whisper.WhisperFeatures`,
            it is 1.
        answer_prefixes: sentences that the base may write before a quoted transcript.
        projector: submodule between encoder and language model.
        first_linear: of the projector; its width is that of an encoder's row.
        tokenizer_files: one of which a folder must have.
        published: settings by id, where transformers' defaults are those of a published model.
    """

    model_type: str
    title: str
    model_class: str
    prompt: Literal["mistral", "chat"]
    language: Literal["optional", "required", "none"]
    rows_of: Callable[[int], int] | None = None
    masked: bool = False
    least_frames: int = 0
    max_chunks: int | None = 1
    answer_prefixes: tuple[str, ...] = ()
    projector: str = "model.multi_modal_projector"
    first_linear: str = "linear_1"
    tokenizer_files: tuple[str, ...] = ("tokenizer.json",)
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_SPOKEN = (
    "The spoken content of the audio is",
    "The transcription of the audio is",
    "The content of the input audio is",
)

FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            model_type="voxtral",
            title="Voxtral",
            model_class="VoxtralForConditionalGeneration",
            prompt="mistral",
            language="optional",
            max_chunks=None,
            tokenizer_files=("tekken.json",),
            published={VOXTRAL_MINI: {"audio_token_id": 24}},
        ),
        Family(
            model_type="audioflamingo3",
            title="Audio Flamingo 3",
            model_class="AudioFlamingo3ForConditionalGeneration",
            prompt="chat",
            language="none",
            rows_of=_halved_and_pooled,
            masked=True,
            answer_prefixes=_SPOKEN,
        ),
        Family(
            model_type="glmasr",
            title="GLM-ASR",
            model_class="GlmAsrForConditionalGeneration",
            prompt="chat",
            language="none",
            rows_of=_halved_and_joined,
            answer_prefixes=_SPOKEN,
        ),
        # Its extractor pads to 30 s, as it is done here, and its processor to the longest of a
        # batch, which shows in the last two frames of a recording.
        Family(
            model_type="qwen3_asr",
            title="Qwen3-ASR",
            model_class="Qwen3ASRForConditionalGeneration",
            prompt="chat",
            language="required",
            rows_of=_eighths_of_seconds,
            masked=True,
            least_frames=50,
        ),
    )
}

UNSUPPORTED: Mapping[str, str] = {
    "voxtral_realtime": (
        "it adds a row of audio to every token and writes one each 80 ms, so its labels need the "
        "time of every word, which transcripts do not have"
    ),
    "qwen2_audio": "transformers has no transcription request for it",
    "granite_speech": "its projector is a Q-Former, and it has no transcription request",
    "phi4_multimodal": "transformers has no transcription request for it",
    "nemotron3_5_asr": "its encoder does not take chunks of 30 s of Whisper's features",
    "vibevoice_asr": "its two encoders take samples, not Whisper's features",
    "fun_asr_nano": "its projector holds transformer layers, and its features are not Whisper's",
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
    if model_type in UNSUPPORTED:
        raise ConfigError(
            f"{source} is a '{model_type}', which cannot be adapted: {UNSUPPORTED[model_type]}; "
            f"supported are {', '.join(FAMILIES)}"
        )
    near = suggest(model_type, FAMILIES, noun="families")
    raise ConfigError(f"{source} is a '{model_type}', which is no speech LLM known here; {near}")
