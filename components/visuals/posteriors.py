"""Pictures of what a model believes, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.visuals.figure import Canvas, Image, visible_token

_ROWS = 28
_LEAST = 0.02


def posterior_image(
    log_probs: NDArray[np.floating[Any]],
    tokens: Sequence[str],
    *,
    seconds_per_frame: float,
    title: str = "",
) -> Image:
    """Draw posteriors of the tokens that matter, in the order in which they first appear.

    The blank, id 0, is the bottom row. Of the other tokens those are shown that reach a probability
    of 2 % anywhere; if they are too many to read, those with the highest peaks.

    Args:
        log_probs: (T, V).
        tokens: printable form of each of the V ids.
        seconds_per_frame: time between frames.
        title: one line above.

    Returns:
        (H, W, 3) uint8 pixels.
    """
    frames = len(log_probs)
    rows = _rows(log_probs)
    canvas = Canvas()
    canvas.title(title)
    axes = canvas.axes[0]
    places = [place + 0.5 for place in range(len(rows))]
    canvas.ticks(axes, places, [visible_token(tokens[index]) for index in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(0, len(rows))
    canvas.side(axes, f"tokens ({len(rows)} of {len(tokens)})")
    if frames:
        image = axes.imshow(
            np.exp(log_probs[:, rows]).T,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0.0, frames * seconds_per_frame, 0, len(rows)),
            cmap="Blues",
            vmin=0.0,
            vmax=1.0,
        )
        canvas.scale(image, axes, "probability")
    canvas.seconds(frames * seconds_per_frame)
    return canvas.pixels()


def _rows(log_probs: NDArray[np.floating[Any]]) -> list[int]:
    """Return the ids to show, from bottom to top."""
    if not log_probs.size:
        return [0]
    probabilities = np.exp(log_probs)
    peaks = probabilities.max(axis=0)
    peaks[0] = 0.0
    shown = np.argsort(-peaks, kind="stable")[: _ROWS - 1]
    shown = np.sort(shown[peaks[shown] >= _LEAST])
    appears = (probabilities[:, shown] >= 0.5 * peaks[shown]).argmax(axis=0)
    return [0, *shown[np.argsort(appears, kind="stable")].tolist()]
