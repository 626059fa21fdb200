from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

from core.data.resample import resampled
from tests.core.data.corpus_files import tone

COMMON = [8000, 11025, 22050, 24000, 32000, 44100, 48000]
ODD = [997, 7919, 11111, 15999, 16001, 22051, 44056, 47999]


def noise(samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)


def filtered(audio: np.ndarray[Any, Any], source: int, target: int, place: int) -> float:
    """Return one new sample as its definition says, from all old ones."""
    cutoff = 0.99 * min(source, target) / source
    total = 0.0
    for number, sample in enumerate(audio.tolist()):
        crossings = (number - place * source / target) * cutoff
        if abs(crossings) < 6:
            sinc = math.sin(math.pi * crossings) / (math.pi * crossings) if crossings else 1.0
            total += sample * cutoff * sinc * math.cos(math.pi * crossings / 12) ** 2
    return total


@pytest.mark.parametrize("rate", COMMON)
def test_common_rates_are_torchaudios(rate: int) -> None:
    audio = noise(rate // 10)
    expected = Resample(rate, 16000)(torch.from_numpy(audio)).numpy()
    assert np.array_equal(resampled(audio, rate, 16000), expected)


@pytest.mark.parametrize("rate", ODD)
def test_rates_without_a_common_divisor_get_the_same_filter(rate: int) -> None:
    audio = noise(301)
    found = resampled(audio, rate, 16000)
    assert found.dtype == np.float32
    assert found.size == math.ceil(301 * 16000 / rate)
    for place in (0, 1, found.size // 3, found.size - 1):
        assert found[place] == pytest.approx(filtered(audio, rate, 16000, place), abs=2e-6)


@pytest.mark.parametrize("rate", [11111, 44056, 192001])
def test_a_tone_stays_a_tone_however_long(rate: int) -> None:
    """Long enough for several steps of the computation."""
    audio = tone(8.0, rate=rate)
    found = resampled(audio, rate, 16000)
    assert np.abs(found - tone(8.0)[: found.size])[100:-100].max() < 0.01


@pytest.mark.parametrize("rate", [11111, 22050])
def test_one_sample_is_enough(rate: int) -> None:
    assert np.isfinite(resampled(noise(1), rate, 16000)).all()
