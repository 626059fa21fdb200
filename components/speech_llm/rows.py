"""How many rows the audio of each chunk fills, where a family leaves padding out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.features.whisper import CHUNK_SAMPLES, HOP
from components.speech_llm.families import FRAMES, Family
from core.errors import DataError


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
        DataError: chunks and rows do not agree, an utterance has more chunks than the family takes,
            or the end of the audio is needed and not known.
    """
    if sum(chunks) != encoded.shape[0]:
        raise DataError(
            f"{encoded.shape[0]} chunks of audio, but the utterances have {list(chunks)}"
        )
    require_chunks(chunks, family)
    if family.rows_of is None:
        return [int(encoded.shape[1])] * encoded.shape[0]
    return [family.rows_of(frames) for frames in chunk_frames(chunks, samples, family)]


def require_chunks(chunks: Sequence[int], family: Family) -> None:
    """Raise DataError for an utterance of more chunks than the family takes."""
    if family.max_chunks is not None and max(chunks, default=0) > family.max_chunks:
        raise DataError(
            f"an utterance has {max(chunks)} chunks of 30 s; {family.title} takes "
            f"{family.max_chunks}: cut the audio, or set the data's 'model', by which training "
            "and validation leave such utterances out"
        )


def chunk_frames(
    chunks: Sequence[int], samples: Sequence[int] | Tensor | None, family: Family
) -> list[int]:
    """Return how many frames of each chunk have their centre inside the audio.

    Raises:
        DataError: the samples of the utterances are not given.
    """
    if samples is None:
        raise DataError(
            f"{family.title} leaves padding out: the samples of each utterance are needed"
        )
    found: list[int] = []
    for number, size in zip(chunks, (int(size) for size in samples), strict=True):
        for chunk in range(number):
            left = min(max(size - chunk * CHUNK_SAMPLES, 0), CHUNK_SAMPLES)
            found.append(max(-(-left // HOP), family.least_frames))
    return found


def frame_mask(frames: Sequence[int], device: torch.device) -> Tensor:
    """Return a (C, T) int64 mask of the first frames of each chunk."""
    ends = torch.tensor(frames, device=device)
    return (torch.arange(FRAMES, device=device) < ends[:, None]).long()


def valid_rows(encoded: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the (N, W) rows that stand for audio tokens, of all chunks in order."""
    if all(count == encoded.shape[1] for count in counts):
        return encoded.flatten(0, 1)
    return torch.cat([encoded[chunk, :count] for chunk, count in enumerate(counts)])
