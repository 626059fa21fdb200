"""Pictures of features over time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.visuals.figure import Canvas, Image

_TICKS = (0, 250, 500, 1000, 2000, 4000, 8000, 16000)


def spectrogram_image(
    features: NDArray[np.floating[Any]],
    *,
    seconds_per_frame: float,
    sample_rate: int | None = None,
    title: str = "",
) -> Image:
    """Draw features as a heat map.

    Args:
        features: (T, F), such as log-mel energies.
        seconds_per_frame: time between frames.
        sample_rate: if given, the bins are taken for the filters of a Slaney mel scale up to half
            the sample rate, and the axis is in Hz; otherwise it counts bins.
        title: one line above.

    Returns:
        (H, W, 3) uint8 pixels.
    """
    canvas = Canvas()
    canvas.title(title)
    axes = canvas.axes[0]
    image = draw_features(
        canvas, axes, features, seconds_per_frame=seconds_per_frame, sample_rate=sample_rate
    )
    canvas.seconds(len(features) * seconds_per_frame)
    if image is not None:
        canvas.scale(image, axes, "feature value")
    return canvas.pixels()


def draw_features(
    canvas: Canvas,
    axes: Any,  # noqa: ANN401
    features: NDArray[np.floating[Any]],
    *,
    seconds_per_frame: float,
    sample_rate: int | None,
) -> Any:  # noqa: ANN401
    """Draw (T, F) features into ``axes``; return what a colour bar needs, None without frames."""
    frames, bins = features.shape
    if sample_rate is None:
        canvas.side(axes, "bin")
    else:
        shown = [hz for hz in _TICKS if hz <= sample_rate / 2]
        places = [mel_bin(hz, bins=bins, sample_rate=sample_rate) for hz in shown]
        # The outer edges of the first and the last filter lie half a bin outside the picture.
        canvas.ticks(axes, np.clip(places, 0, bins).tolist(), [str(hz) for hz in shown])
        canvas.side(axes, "Hz")
    axes.set_ylim(0, bins)
    if not features.size:
        return None
    finite = features[np.isfinite(features)]
    # A few outliers, such as digital silence, must not take all the contrast.
    low, high = np.percentile(finite, [2.0, 99.8]) if finite.size else (0.0, 1.0)
    return axes.imshow(
        features.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(0.0, frames * seconds_per_frame, 0, bins),
        cmap="magma",
        vmin=low,
        vmax=max(high, low + 1e-6),
    )


def mel_bin(hz: float, *, bins: int, sample_rate: int) -> float:
    """Return where a frequency lies on an axis of ``bins`` mel filters, filter i at i + 0.5."""
    share = _slaney_mel(hz) / _slaney_mel(sample_rate / 2)
    return share * (bins + 1) - 0.5


def _slaney_mel(hz: float) -> float:
    """Map Hz to mel as in Slaney's Auditory Toolbox: linear to 1 kHz, then logarithmic."""
    if hz < 1000.0:
        return 3.0 * hz / 200.0
    return 15.0 + 27.0 * math.log(hz / 1000.0) / math.log(6.4)
