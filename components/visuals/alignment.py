"""Pictures of where the tokens of a transcript lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from components.visuals.figure import WIDTH, Canvas, Image, visible_token
from components.visuals.spectrogram import draw_features
from core.contracts import TokenTime

_LANES = 4
_CHARACTER = 6.5
"""Width of a small Latin character, in pixels; ideographs and syllables take two."""
_SHADES = ((0.9, "#2f7d4f", "p ≥ 0.9"), (0.5, "#c98a1b", "p ≥ 0.5"), (0.0, "#b3372f", "p < 0.5"))
"""Least probability, colour (green, ochre, red) and what to call it."""


def alignment_image(
    features: NDArray[np.floating[Any]],
    spans: Sequence[TokenTime],
    *,
    seconds_per_frame: float,
    sample_rate: int | None = None,
    reference: str = "",
) -> Image:
    """Draw features with the tokens of a transcript below them.

    Tokens are green from probability 0.9, ochre from 0.5 and red below. Where they lie too close
    for their names, some names are left out; every token has its bar.

    Args:
        features: (T, F).
        spans: tokens in time order.
        seconds_per_frame: time between frames of ``features``.
        sample_rate: as for :func:`components.visuals.spectrogram.spectrogram_image`.
        reference: the transcript, written above.

    Returns:
        (H, W, 3) uint8 pixels.
    """
    canvas = Canvas(rows=(3.0, 1.0))
    canvas.title(reference)
    top, bottom = canvas.axes
    draw_features(
        canvas, top, features, seconds_per_frame=seconds_per_frame, sample_rate=sample_rate
    )
    end = max([len(features) * seconds_per_frame, *(span.end for span in spans)])
    for span in spans:
        colour = next(colour for least, colour, _ in _SHADES if span.probability >= least)
        top.axvline(span.start, color="white", linewidth=0.6, alpha=0.45)
        bottom.axvspan(span.start, span.end, ymin=0.86, ymax=1.0, color=colour, linewidth=0)
    for span, lane in _lanes(canvas, spans, seconds=end):
        middle = (span.start + span.end) / 2
        height = 0.72 - 0.2 * lane
        bottom.plot([middle, middle], [height + 0.07, 0.86], color="#bbbbbb", linewidth=0.5)
        canvas.label(bottom, middle, height, visible_token(span.token), clip_on=False)
    bottom.set_ylim(0.0, 1.0)
    bottom.set_yticks([])
    canvas.side(bottom, "tokens")
    for side in ("top", "left", "right"):
        bottom.spines[side].set_visible(False)
    canvas.seconds(end)
    canvas.key(bottom, {name: colour for _, colour, name in _SHADES})
    return canvas.pixels()


def _lanes(
    canvas: Canvas, spans: Sequence[TokenTime], *, seconds: float
) -> list[tuple[TokenTime, int]]:
    """Give each token the highest lane where its name does not touch the one before."""
    scale = seconds / (0.92 * WIDTH)
    free = [float("-inf")] * _LANES
    placed = []
    for span in spans:
        width = (cell_len(canvas.printable(visible_token(span.token))) + 0.6) * _CHARACTER * scale
        left = (span.start + span.end - width) / 2
        lane = next((lane for lane, edge in enumerate(free) if edge <= left), None)
        if lane is not None:
            free[lane] = left + width
            placed.append((span, lane))
    return placed
