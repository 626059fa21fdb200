"""Requests, and requests with their answers, as batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.speech_llm.prompt import Prompt
from core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Requests with or without answers, padded to one length.

    Args:
        ids: (B, L) int64.
        mask: (B, L) int64, 1 where there is a token and 0 where there is padding.
        answers: first position and position after the last of each answer; empty without answers.
    """

    ids: Tensor
    mask: Tensor
    answers: tuple[tuple[int, int], ...] = ()

    def at_answers(self, values: Tensor, *, shift: int = 0) -> Tensor:
        """Return (N, ...) of (B, L, ...) values at the answers, or ``shift`` positions later."""
        spans = enumerate(self.answers)
        return torch.cat([values[row, start + shift : end + shift] for row, (start, end) in spans])


def requests(
    prompt: Prompt,
    *,
    rows: Sequence[int],
    chunks: Sequence[int],
    language: str | None,
) -> list[list[int]]:
    """Return the ids that ask for each transcript.

    Args:
        prompt: of the model.
        rows: of each of C chunks, that stand for audio tokens.
        chunks: of each utterance; they sum to C.
        language: code of ISO 639-1; None for none.
    """
    asked: list[list[int]] = []
    start = 0
    for number in chunks:
        filled = sum(rows[start : start + number])
        asked.append(prompt.request(rows=filled, chunks=number, language=language))
        start += number
    return asked


def to_be_answered(
    prompt: Prompt, asked: Sequence[Sequence[int]], device: torch.device
) -> Examples:
    """Pad requests on the left, so that every answer begins at the same position."""
    ids, mask = _padded(asked, pad=prompt.pad_token, left=True)
    return Examples(ids=ids.to(device), mask=mask.to(device))


def answered(
    prompt: Prompt,
    asked: Sequence[Sequence[int]],
    texts: Sequence[str],
    device: torch.device,
) -> Examples:
    """Join requests with their answers and pad on the right."""
    rows: list[list[int]] = []
    spans: list[tuple[int, int]] = []
    for request, text in zip(asked, texts, strict=True):
        rows.append([*request, *answer_ids(prompt, text)])
        spans.append((len(request), len(rows[-1])))
    ids, mask = _padded(rows, pad=prompt.pad_token)
    return Examples(ids=ids.to(device), mask=mask.to(device), answers=tuple(spans))


def answer_ids(prompt: Prompt, text: str) -> list[int]:
    """Return the label ids of a transcript, its end included.

    Raises:
        DataError: it holds the token that stands for audio.
    """
    ids = prompt.answer(text)
    if prompt.audio_token in ids:
        raise DataError(f"a transcript holds the token that stands for audio: {text[:80]!r}")
    return ids


def _padded(
    rows: Sequence[Sequence[int]], *, pad: int, left: bool = False
) -> tuple[Tensor, Tensor]:
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(0, len(row))
        ids[number, place] = torch.tensor(row, dtype=torch.int64)
        mask[number, place] = 1
    return ids, mask
