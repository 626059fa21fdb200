"""What trackers show of speech that a model has to fill in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from components.visuals.figure import Canvas, Image
from components.visuals.report import can_draw
from components.visuals.spectrogram import draw_features
from core.contracts import Artifact


def masked_speech_artifacts(
    *,
    utterance: str,
    clean_audio: Tensor | None,
    noisy_audio: Tensor | None,
    sample_rate: int,
    clean_features: NDArray[np.floating[Any]],
    masked_features: NDArray[np.floating[Any]],
    seconds_per_frame: float,
) -> list[Artifact]:
    """Return audio and a picture of one utterance.

    Args:
        utterance: id, which ends the artifacts' names.
        clean_audio: (S,) samples; None where the batch had features.
        noisy_audio: (S',) samples; None where the batch had features.
        sample_rate: of the audio, in Hz.
        clean_features: (T, F), what the targets are made of.
        masked_features: (T', F), what the encoder gets.
        seconds_per_frame: time between frames.
    """
    found = [
        Artifact(
            name=f"{form}/{utterance}",
            kind="audio",
            value=audio.numpy(),
            caption=utterance,
            sample_rate=sample_rate,
        )
        for form, audio in (("clean", clean_audio), ("noisy", noisy_audio))
        if audio is not None
    ]
    if can_draw():
        picture = _picture(
            clean_features,
            masked_features,
            seconds_per_frame=seconds_per_frame,
            sample_rate=sample_rate,
            title=utterance,
        )
        name = f"masked/{utterance}"
        found.append(Artifact(name=name, kind="image", value=picture, caption=utterance))
    return found


def _picture(
    clean: NDArray[np.floating[Any]],
    masked: NDArray[np.floating[Any]],
    *,
    seconds_per_frame: float,
    sample_rate: int,
    title: str,
) -> Image:
    """Draw what the targets are made of above what the encoder gets."""
    canvas = Canvas(rows=(1.0, 1.0))
    canvas.title(f"{title}: clean speech above, what the encoder gets below")
    for axes, features in zip(canvas.axes, (clean, masked), strict=True):
        draw_features(
            canvas,
            axes,
            features,
            seconds_per_frame=seconds_per_frame,
            sample_rate=sample_rate,
        )
    canvas.seconds(max(len(clean), len(masked)) * seconds_per_frame)
    return canvas.pixels()
