"""What trackers show of one utterance."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contracts import Artifact, TokenTime

_log = logging.getLogger(__name__)


def utterance_artifacts(
    *,
    utterance: str,
    audio: NDArray[np.float32],
    sample_rate: int,
    features: NDArray[np.floating[Any]],
    log_probs: NDArray[np.floating[Any]],
    tokens: Sequence[str],
    aligned: Sequence[TokenTime],
    seconds_per_frame: float,
    seconds_per_feature: float,
    reference: str,
    hypothesis: str,
) -> list[Artifact]:
    """Return texts, audio and pictures of an utterance.

    Without matplotlib there are no pictures, which is logged once.

    Args:
        utterance: id, which ends the artifacts' names.
        audio: (S,) samples.
        sample_rate: of ``audio``, in Hz.
        features: (T, F) mel features.
        log_probs: (T', V) log posteriors.
        tokens: printable form of each of the V ids.
        aligned: tokens of the reference in time; empty if it cannot be aligned.
        seconds_per_frame: time between frames of ``log_probs``.
        seconds_per_feature: time between frames of ``features``.
        reference: what was said.
        hypothesis: what was heard.
    """
    text = f"reference:  {reference}\nhypothesis: {hypothesis}"
    found = [
        Artifact(name=f"text/{utterance}", kind="text", value=text, caption=reference),
        Artifact(
            name=f"audio/{utterance}",
            kind="audio",
            value=audio,
            caption=reference,
            sample_rate=sample_rate,
        ),
    ]
    if not can_draw():
        return found
    from components.visuals.alignment import alignment_image
    from components.visuals.posteriors import posterior_image
    from components.visuals.spectrogram import spectrogram_image

    images = {
        "spectrogram": spectrogram_image(
            features,
            seconds_per_frame=seconds_per_feature,
            sample_rate=sample_rate,
            title=reference,
        ),
        "posteriors": posterior_image(
            log_probs, tokens, seconds_per_frame=seconds_per_frame, title=hypothesis
        ),
    }
    if aligned:
        images["alignment"] = alignment_image(
            features,
            aligned,
            seconds_per_frame=seconds_per_feature,
            sample_rate=sample_rate,
            reference=reference,
        )
    return found + [
        Artifact(name=f"{name}/{utterance}", kind="image", value=image, caption=reference)
        for name, image in images.items()
    ]


@cache
def can_draw() -> bool:
    """Return whether pictures can be made; if not, it is logged once."""
    found = importlib.util.find_spec("matplotlib") is not None
    if not found:
        _log.warning("matplotlib is not installed: there will be no pictures; it is in sori[aim]")
    return found
