"""Requests of models whose processor writes them with a chat template."""

from __future__ import annotations

import unicodedata
from typing import Any

import torch

from components.speech_llm.families import Family
from core.errors import ConfigError

SPOKEN = "<asr_text>"
"""What Qwen3-ASR writes between the language and the transcript."""


class ChatPrompt:
    """The processor's transcription request, with an audio token for each row.

    Args:
        processor: of transformers, with ``apply_transcription_request``.
        family: that it is of.
    """

    def __init__(self, processor: Any, family: Family) -> None:  # noqa: ANN401
        tokenizer = processor.tokenizer
        self._processor = processor
        self._tokenizer = tokenizer
        self._family = family
        self._known: dict[str | None, tuple[list[int], list[int]]] = {}
        self.audio_token = int(processor.audio_token_id)
        self.end_token = int(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self.pad_token = self.end_token if pad is None else int(pad)

    def request(self, *, rows: int, chunks: int, language: str | None) -> list[int]:
        """Return the request; how many chunks the rows are of makes no difference to it.

        Raises:
            ConfigError: the language is none that can be asked for, or one is needed.
        """
        self.require(language)
        before, after = self._known[language]
        return [*before, *([self.audio_token] * rows), *after]

    def require(self, language: str | None) -> None:
        """Raise ConfigError unless the language, or none, can be asked for."""
        if language not in self._known:
            self._known[language] = self._around_audio(language)

    def answer(self, text: str) -> list[int]:
        """Return the ids of a transcript and the end."""
        composed = unicodedata.normalize("NFC", text)
        ids = self._tokenizer(composed, add_special_tokens=False)["input_ids"]
        return [*map(int, ids), self.end_token]

    def read(self, ids: list[int]) -> str:
        """Return the transcript in generated ids, up to the end, without sentences around it."""
        kept = ids[: ids.index(self.end_token)] if self.end_token in ids else ids
        text = str(self._tokenizer.decode(kept, skip_special_tokens=True)).strip()
        text = text.rpartition(SPOKEN)[2].strip() if SPOKEN in text else text
        if text.startswith(self._family.answer_prefixes or ("\0",)):
            return str(
                self._processor.decode([kept], skip_special_tokens=True, strip_prefix=True)[0]
            )
        return text

    def _around_audio(self, language: str | None) -> tuple[list[int], list[int]]:
        """Return the ids before and after the audio tokens."""
        silence = torch.zeros(16_000).numpy()
        asked = {} if language is None else {"language": self._accepted(language)}
        if language is None and self._family.language == "required":
            raise ConfigError(
                f"{self._family.title} writes the language before the transcript unless it is "
                "told: set language, such as language=ko"
            )
        text = self._processor.apply_transcription_request(
            audio=[silence], tokenize=False, **asked
        )[0]
        ids = [int(i) for i in self._tokenizer(text, add_special_tokens=False)["input_ids"]]
        if ids.count(self.audio_token) != 1:
            raise ConfigError(
                f"the chat template of {self._family.title} writes {ids.count(self.audio_token)} "
                "audio tokens for one recording; expected 1"
            )
        place = ids.index(self.audio_token)
        return ids[:place], ids[place + 1 :]

    def _accepted(self, language: str) -> str:
        if self._family.language == "none":
            raise ConfigError(
                f"language '{language}': the request of {self._family.title} names no language; "
                "leave it None"
            )
        from transformers.models.qwen3_asr.processing_qwen3_asr import LANGUAGE_CODE_TO_NAME

        from core.errors import suggest

        if language not in LANGUAGE_CODE_TO_NAME:
            codes = {name.lower(): code for code, name in LANGUAGE_CODE_TO_NAME.items()}
            code = codes.get(language.lower())
            near = (
                f"did you mean '{code}'?"
                if code
                else suggest(language, LANGUAGE_CODE_TO_NAME, noun="codes")
            )
            raise ConfigError(f"{self._family.title} has no language '{language}'; {near}")
        return language
