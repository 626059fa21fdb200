from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from components.visuals.alignment import _lanes, alignment_image
from components.visuals.figure import Canvas
from core.contracts import TokenTime

GREEN, RED = (0x2F, 0x7D, 0x4F), (0xB3, 0x37, 0x2F)


def span(token: str, start: float, end: float, probability: float = 0.95) -> TokenTime:
    return TokenTime(token=token, start=start, end=end, probability=probability)


def columns(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    bars = pixels[250:320]  # Above the key, which shows the colours too.
    return np.flatnonzero((bars == np.array(colour)).all(axis=2).sum(axis=0) > 5)


def test_bars_lie_at_their_times_in_the_colour_of_their_probability() -> None:
    features = np.random.default_rng(0).normal(size=(100, 20))
    spans = [span("a", 0.2, 0.3), span("b", 0.6, 0.8, 0.1)]
    pixels = alignment_image(features, spans, seconds_per_frame=0.01, reference="ab")
    green, red = columns(pixels, GREEN), columns(pixels, RED)
    assert 0.0 < green.min() < green.max() < red.min()
    pixels_per_second = (red.max() - green.min() + 1) / 0.6
    assert len(green) == pytest.approx(0.1 * pixels_per_second, abs=3)
    assert len(red) == pytest.approx(0.2 * pixels_per_second, abs=3)


def test_names_do_not_touch_and_only_crowded_ones_are_left_out() -> None:
    canvas = Canvas()
    apart = [span("word", second, second + 0.1) for second in range(9)]
    assert [lane for _, lane in _lanes(canvas, apart, seconds=10.0)] == [0] * 9
    crowded = [span("word", 0.01 * place, 0.01 * place + 0.01) for place in range(9)]
    assert [lane for _, lane in _lanes(canvas, crowded, seconds=10.0)] == [0, 1, 2, 3]


@pytest.mark.filterwarnings("error")
def test_nothing_to_align_still_gives_a_picture() -> None:
    pixels = alignment_image(np.zeros((0, 8)), [], seconds_per_frame=0.01, sample_rate=8000)
    assert pixels.shape == (400, 900, 3)
