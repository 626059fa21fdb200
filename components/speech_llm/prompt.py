"""The request for a transcript as token ids, and transcripts as labels."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from components.speech_llm.families import Family
from components.speech_llm.packages import require
from core.errors import CheckpointError, ConfigError, suggest

SAMPLE_RATE = 16_000


class Prompt(Protocol):
    """Writes requests and reads answers in the language model's own tokens."""

    audio_token: int
    """Stands for one row of the projector."""
    pad_token: int
    end_token: int

    def request(self, *, rows: int, chunks: int, language: str | None) -> list[int]:
        """Return the ids that ask for the transcript of audio of so many rows and chunks.

        Raises:
            ConfigError: the language is not one that can be asked for.
        """

    def require(self, language: str | None) -> None:
        """Raise ConfigError unless transcripts can be asked for in the language."""

    def answer(self, text: str) -> list[int]:
        """Return the ids of a transcript, composed (NFC), and the end of the answer."""

    def read(self, ids: list[int]) -> str:
        """Return the text of generated ids."""


def prompt_for(folder: Path, family: Family) -> Prompt:
    """Return the prompt of a base model.

    Args:
        folder: with its tokenizer and processor.
        family: that it is of.

    Raises:
        ConfigError: a package is missing, or the files make no processor of the family's kind.
        CheckpointError: the family needs a chat template, and there is none.
    """
    from transformers import AutoProcessor

    if family.prompt == "mistral":
        require("mistral_common")
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{folder}: its processor cannot be loaded: {reason}") from error
    if family.prompt == "mistral":
        return MistralPrompt(processor.tokenizer)
    from components.speech_llm.chat_prompt import ChatPrompt

    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise CheckpointError(
            f"{folder} lacks chat_template.jinja, by which {family.title} is asked for a "
            "transcript; put it there"
        )
    return ChatPrompt(processor, family)


class MistralPrompt:
    """``<s>[INST][BEGIN_AUDIO][AUDIO]...[/INST]lang:xx[TRANSCRIBE]``, written by mistral-common.

    Args:
        tokenizer: ``MistralCommonBackend`` of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        special = tokenizer.tokenizer.instruct_tokenizer.tokenizer
        self.audio_token = int(special.get_special_token("[AUDIO]"))
        self.pad_token = int(special.pad_id)
        self.end_token = int(special.eos_id)
        self._known: dict[tuple[int, str | None], list[int]] = {}

    def request(self, *, rows: int, chunks: int, language: str | None) -> list[int]:
        """Return the request; its audio tokens must be as many as rows."""
        key = (chunks, language)
        if key not in self._known:
            self._known[key] = self._encoded(chunks, language)
        ids = self._known[key]
        if ids.count(self.audio_token) != rows:
            raise ConfigError(
                f"the tokenizer writes {ids.count(self.audio_token)} audio tokens for {chunks} "
                f"chunks, and the encoder gives {rows} rows; tokenizer and model do not belong "
                "together"
            )
        return ids

    def require(self, language: str | None) -> None:
        """Raise ConfigError unless the language is a code of ISO 639-1."""
        self._known.setdefault((1, language), self._encoded(1, language))

    def answer(self, text: str) -> list[int]:
        """Return the ids of a transcript and the end."""
        composed = unicodedata.normalize("NFC", text)
        ids = self._tokenizer(composed, add_special_tokens=False)["input_ids"]
        return [*map(int, ids), self.end_token]

    def read(self, ids: list[int]) -> str:
        """Return the text of generated ids, up to the end."""
        kept = ids[: ids.index(self.end_token)] if self.end_token in ids else ids
        return str(self._tokenizer.decode(kept, skip_special_tokens=True)).strip()

    def _encoded(self, chunks: int, language: str | None) -> list[int]:
        from mistral_common.protocol.transcription.request import TranscriptionRequest

        audio = _silence(seconds=30 * chunks)
        try:
            asked = TranscriptionRequest.from_openai(
                {"model": "any", "file": audio, "language": language}
            )
        except ValueError as error:
            raise ConfigError(_language_message(str(language))) from error
        return [int(i) for i in self._tokenizer.tokenizer.encode_transcription(asked).tokens]


def _silence(*, seconds: int) -> io.BytesIO:
    import soundfile

    stream = io.BytesIO()
    samples = np.zeros(seconds * SAMPLE_RATE, dtype=np.float32)
    soundfile.write(stream, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    stream.seek(0)
    return stream


def require_code(language: str | None) -> None:
    """Raise ConfigError for what is no code of a language, whatever the model.

    That is a code of two letters, or one of three where there is none of two (ISO 639-3). Without
    pycountry, which comes with mistral-common, only the form is looked at.
    """
    try:
        import pycountry
    except ImportError:
        known = language is None or (language.isalpha() and len(language) in (2, 3))
        if not known:
            raise ConfigError(f"language '{language}' is no code such as 'ko'") from None
        return
    if language is None or pycountry.languages.get(alpha_2=language):
        return
    found = pycountry.languages.get(alpha_3=language) if len(language) == 3 else None
    if found is None or hasattr(found, "alpha_2"):
        raise ConfigError(_language_message(language))


def _language_message(language: str) -> str:
    import pycountry

    codes = {
        entry.alpha_2: entry.name for entry in pycountry.languages if hasattr(entry, "alpha_2")
    }
    for code, name in codes.items():
        if name.lower() == language.lower():
            return f"language '{language}' is not a code of ISO 639-1; did you mean '{code}'?"
    return f"language '{language}' is not a code of ISO 639-1; {suggest(language, codes)}"
