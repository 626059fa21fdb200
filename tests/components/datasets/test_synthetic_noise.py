from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.datasets.synthetic_noise import SyntheticNoise
from core.data.audio import Samples, load_audio
from core.data.source import Source, StreamSource
from core.data.uri import open_source
from core.errors import ConfigError
from tests.core.data.corpus_files import RATE


def clip(index: int, **options: Any) -> Samples:
    return load_audio(SyntheticNoise(**options).cut(index), sample_rate=RATE)


def octave_slope(audio: Samples) -> float:
    """Return the change in power density from 500..1000 Hz to 2000..4000 Hz, in dB an octave."""
    power = np.abs(np.fft.rfft(audio.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(audio.size, 1 / RATE)
    low, high = (power[(hertz > start) & (hertz < 2 * start)].mean() for start in (500.0, 2000.0))
    return float(10 * np.log10(high / low) / 2)


def test_it_is_a_source_with_random_access(tmp_path: Path) -> None:
    source = open_source("synthetic_noise:val?clips=7&seconds=0.5&colour=pink", cache_dir=tmp_path)
    assert isinstance(source, Source)
    assert not isinstance(source, StreamSource)
    assert source.durations.tolist() == [0.5] * 7
    assert len(source) == 7
    assert list(source.texts()) == []
    assert source.cut(3).duration == 0.5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("colour", "slope"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0)])
def test_colours_fall_as_they_should(colour: str, slope: float) -> None:
    audio = clip(0, colour=colour, seconds=20.0)
    assert octave_slope(audio) == pytest.approx(slope, abs=0.3)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.05, rel=1e-3)
    assert abs(audio).max() < 1.0


def test_colours_take_turns() -> None:
    slopes = [octave_slope(clip(index)) for index in range(4)]
    assert slopes == [*sorted(slopes[:3], reverse=True), pytest.approx(slopes[0], abs=0.5)]


def test_a_clip_is_a_function_of_name_seed_and_number() -> None:
    assert np.array_equal(clip(2), clip(2))
    for other in (clip(5), clip(2, location="validation"), clip(2, seed=1)):
        assert abs(np.corrcoef(clip(2), other)[0, 1]) < 0.1
    prints = {
        SyntheticNoise(**options).fingerprint
        for options in ({}, {"seed": 1}, {"location": "b"}, {"clips": 2}, {"colour": "pink"})
    }
    assert len(prints) == 5


def test_the_shortest_clip_is_one_sample() -> None:
    assert np.isfinite(clip(0, seconds=1e-6)).all()


@pytest.mark.parametrize("options", [{"clips": 0}, {"seconds": 0.0}, {"sample_rate": 0}])
def test_nothing_to_make_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        SyntheticNoise(**options)
