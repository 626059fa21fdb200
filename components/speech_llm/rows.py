"""How many rows the audio of each chunk fills, where a family leaves padding out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.speech_llm.families import Family
from core.errors import DataError

HOP = 160
CHUNK_SAMPLES = 480_000


def row_counts(
    encoded: Tensor,
    chunks: Sequence[int],
    samples: Sequence[int] | Tensor | None,
    family: Family,
) -> list[int]:
    """Return the rows of each of C chunks that stand for audio tokens.

    Args:
        encoded: (C, R, W) rows.
        chunks: of each utterance; they sum to C.
        samples: of audio behind each utterance.
        family: says whether rows of padding count.

    Raises:
        DataError: chunks and rows do not agree, or the end of the audio is needed and not known.
    """
    if sum(chunks) != encoded.shape[0]:
        raise DataError(
            f"{encoded.shape[0]} chunks of audio, but the utterances have {list(chunks)}"
        )
    rows = int(encoded.shape[1])
    if not family.masked:
        return [rows] * encoded.shape[0]
    frames = chunk_frames(chunks, samples, family)
    stride = family.frames_per_chunk // rows
    return [
        min((((count - 1) // 2 + 1) - stride // 2) // (stride // 2) + 1, rows) for count in frames
    ]


def chunk_frames(
    chunks: Sequence[int] | None, samples: Sequence[int] | Tensor | None, family: Family
) -> list[int]:
    """Return the frames of each chunk that hear audio: every frame whose centre is inside it."""
    if samples is None or chunks is None:
        raise DataError(
            f"{family.title} leaves padding out: the samples and chunks of each utterance are needed"
        )
    found: list[int] = []
    for number, size in zip(chunks, [int(s) for s in samples], strict=True):
        for chunk in range(number):
            left = min(max(size - chunk * CHUNK_SAMPLES, 0), CHUNK_SAMPLES)
            found.append(-(-left // HOP))
    return found


def frame_mask(
    chunks: Sequence[int] | None, samples: Sequence[int] | Tensor | None, family: Family
) -> Tensor:
    """Return a (C, T) int64 mask of frames that hear audio."""
    frames = torch.tensor(chunk_frames(chunks, samples, family))
    return (torch.arange(family.frames_per_chunk) < frames[:, None]).long()


def valid_rows(encoded: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the (N, W) rows that stand for audio tokens, of all chunks in order."""
    if all(count == encoded.shape[1] for count in counts):
        return encoded.flatten(0, 1)
    return torch.cat([encoded[chunk, :count] for chunk, count in enumerate(counts)])
