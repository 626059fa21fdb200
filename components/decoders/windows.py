"""Frame scores of audio of any length, from overlapping windows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Scores = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def windowed_logits(
    scores: Scores,
    audio: Tensor,
    lengths: Tensor,
    *,
    window: int,
    context: int,
    samples_per_frame: int,
) -> tuple[Tensor, Tensor]:
    """Encode long audio in windows with context on both sides and join what each is sure of.

    Each window gives the frames of its own ``window`` samples; the ``context`` before and after is
    heard but its frames are dropped, since the neighbouring window hears them better. One window
    is encoded at a time, so memory does not grow with the length.

    Args:
        scores: (1, S) samples and (1,) lengths to (1, T, V) logits and (1,) frame counts.
        audio: (B, S) samples.
        lengths: (B,) int64 sample counts.
        window: samples whose frames are kept; a multiple of ``samples_per_frame``.
        context: samples heard on each side; likewise.
        samples_per_frame: samples between two frames.

    Returns:
        (B, T, V) logits, zero past each length, and (B,) int64 frame counts.
    """
    rows = [
        _one(
            scores,
            row[:length],
            window=window,
            context=context,
            samples_per_frame=samples_per_frame,
        )
        for row, length in zip(audio, lengths.tolist(), strict=True)
    ]
    frames = torch.tensor([row.shape[0] for row in rows], device=audio.device)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), frames


def _one(
    scores: Scores, audio: Tensor, *, window: int, context: int, samples_per_frame: int
) -> Tensor:
    """Return the (T, V) logits of one utterance."""
    total = audio.shape[0]
    kept: list[Tensor] = []
    for start in range(0, max(total, 1), window):
        left = max(start - context, 0)
        piece = audio[left : min(start + window + context, total)]
        size = torch.tensor([piece.shape[0]], device=audio.device)
        logits, frames = scores(piece.unsqueeze(0), size)
        valid = logits[0, : int(frames[0])]
        skip = (start - left) // samples_per_frame
        is_last = start + window >= total
        end = None if is_last else skip + window // samples_per_frame
        kept.append(valid[skip:end])
    return torch.cat(kept)
