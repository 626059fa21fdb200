"""Requests of models whose processor writes them with a chat template."""

from __future__ import annotations

import unicodedata
from typing import Any

import torch

from components.speech_llm.families import Family
from core.errors import ConfigError


class ChatPrompt:
    """The processor's transcription request, with an audio token for each row.

    Args:
        processor: of transformers, with ``apply_transcription_request``.
        family: that it is of.
    """

    def __init__(self, processor: Any, family: Family) -> None:  # noqa: ANN401
        self._tokenizer = processor.tokenizer
        self._family = family
        self.audio_token = int(processor.audio_token_id)
        tokenizer = processor.tokenizer
        self.end_token = int(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self.pad_token = self.end_token if pad is None else int(pad)
        silence = torch.zeros(16_000).numpy()
        text = processor.apply_transcription_request(audio=[silence], tokenize=False)[0]
        ids = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        if ids.count(self.audio_token) != 1:
            raise ConfigError(
                f"the chat template of {family.title} writes {ids.count(self.audio_token)} audio "
                "tokens for one recording; expected 1"
            )
        place = ids.index(self.audio_token)
        self._before, self._after = ids[:place], ids[place + 1 :]

    def request(self, *, rows: int, chunks: int, language: str | None) -> list[int]:
        """Return the request. Raises ConfigError for a language, which it has no place for."""
        if language is not None:
            raise ConfigError(
                f"language '{language}': the request of {self._family.title} names no language; "
                "leave it None"
            )
        return [*self._before, *([self.audio_token] * rows), *self._after]

    def answer(self, text: str) -> list[int]:
        """Return the ids of a transcript and the end."""
        composed = unicodedata.normalize("NFC", text)
        ids = self._tokenizer(composed, add_special_tokens=False)["input_ids"]
        return [*map(int, ids), self.end_token]

    def read(self, ids: list[int]) -> str:
        """Return the text of generated ids, up to the end."""
        kept = ids[: ids.index(self.end_token)] if self.end_token in ids else ids
        return str(self._tokenizer.decode(kept, skip_special_tokens=True)).strip()
