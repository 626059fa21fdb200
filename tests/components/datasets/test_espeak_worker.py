from __future__ import annotations

import numpy as np
import pytest

from components.datasets.espeak_worker import resample


@pytest.mark.parametrize(("source", "target"), [(22050, 16000), (8000, 16000), (48000, 16000)])
def test_a_tone_below_the_cutoff_passes_unchanged(source: int, target: int) -> None:
    def tone(rate: int) -> np.ndarray:
        return np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate)

    result = resample(tone(source), source, target)
    assert len(result) == target // 2
    inner = slice(200, -200)
    np.testing.assert_allclose(result[inner], tone(target)[inner], atol=2e-3)


def test_a_tone_above_the_new_nyquist_frequency_is_removed() -> None:
    high = np.sin(2 * np.pi * 9500 * np.arange(22050) / 22050)
    assert np.abs(resample(high, 22050, 16000)[200:-200]).max() < 2e-3


@pytest.mark.parametrize("length", [1, 100, 440, 441, 442, 1000])
def test_any_length_gives_the_same_time(length: int) -> None:
    result = resample(np.ones(length), 22050, 16000)
    assert len(result) == -(-length * 320 // 441)
