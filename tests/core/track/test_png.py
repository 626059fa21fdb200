from __future__ import annotations

import io
import zlib

import numpy as np
import pytest

from core.track.png import encode_png


def test_pixels_read_back_with_an_imaging_library() -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (13, 7, 3), dtype=np.uint8)

    read = image.open(io.BytesIO(encode_png(pixels)))

    assert read.format == "PNG"
    assert np.array_equal(np.asarray(read), pixels)


def test_the_smallest_image_has_the_bytes_of_the_standard() -> None:
    encoded = encode_png(np.array([[[255, 0, 0]]], dtype=np.uint8))

    assert encoded.startswith(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02"
    )
    assert zlib.compress(b"\x00\xff\x00\x00") in encoded
    assert encoded.endswith(bytes.fromhex("0000000049454e44ae426082"))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((0, 2, 3), np.uint8)],
)
def test_anything_but_rgb_bytes_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected \\(H, W, 3\\) uint8"):
        encode_png(pixels)
