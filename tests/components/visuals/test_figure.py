from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from components.visuals.figure import HEIGHT, WIDTH, Canvas, visible_token


def test_pixels_have_the_promised_form() -> None:
    canvas = Canvas(rows=(2.0, 1.0))
    canvas.title("t")
    pixels = canvas.pixels()
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.owndata
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels.min() < 50


@pytest.mark.parametrize(
    "text", ["word " * 200, "안녕하세요 " * 100, "$\\frac{$ _^ $", "😀\x00 漢字 \u0301"]
)
def test_any_title_is_written_within_the_picture_and_without_warnings(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas = Canvas()
        canvas.title(text)
        canvas.label(canvas.axes[0], 0.5, 0.5, text[:20])
        canvas.ticks(canvas.axes[0], [0.5], [text[:20]])
        pixels = canvas.pixels()
    assert (pixels[:20] < 128).any()
    assert (pixels[:20, -3:] == 255).all()


def test_pyplot_is_left_alone() -> None:
    program = (
        "import sys; from components.visuals.figure import Canvas; "
        "assert 'matplotlib' not in sys.modules; Canvas().pixels(); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_spaces_are_made_visible() -> None:
    assert [visible_token(token) for token in (" ", "a b", "")] == ["␣", "a␣b", "␣"]
