from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from components.datasets.styled_codes import CODES, MEASURES, centroids, codes, measured, of_voice

RATE = 16_000


def pulses(path: Path, hertz: float, *, loud: slice, seconds: float = 2.0) -> Path:
    """Write harmonics of a fundamental that sound in a part of the file, over faint noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, 12))
    audio = 1e-4 * np.random.default_rng(0).standard_normal(time.size)
    audio[loud] += 0.1 * np.asarray(tone)[loud]
    soundfile.write(path, audio, RATE)
    return path


@pytest.mark.parametrize("hertz", [70.0, 120.0, 260.0])
def test_pitch_is_that_of_the_loud_frames_and_held_elsewhere(hertz: float, tmp_path: Path) -> None:
    found = measured(pulses(tmp_path / "a.wav", hertz, loud=slice(8000, 24000)))
    assert found.shape == (25, MEASURES)
    assert found.dtype == torch.float32
    inside = found[8:17, -1]
    assert inside.median().exp().item() == pytest.approx(hertz, rel=0.01)
    assert (found[-5:, -1] - inside.median()).abs().max() < 0.1, "noise has the pitch before it"
    assert torch.isfinite(found).all()


def test_loudness_is_the_first_coefficient(tmp_path: Path) -> None:
    found = measured(pulses(tmp_path / "a.wav", 100.0, loud=slice(16000, 32000)))[:, 0]
    assert found[15:22].min() > found[3:9].max()


def test_centroids_lie_where_frames_are_and_none_is_lost() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(CODES, MEASURES, generator=generator) * 10
    frames = places.repeat(20, 1) + 0.01 * torch.randn(20 * CODES, MEASURES, generator=generator)
    found = centroids(frames, seed=0)
    distance = torch.cdist(frames, found).amin(1)
    drawn = frames[torch.randperm(len(frames), generator=generator)[:CODES]]
    assert distance.mean() < 0.8 * torch.cdist(frames, drawn).amin(1).mean()
    assert len(codes(frames, found).unique()) > 0.5 * CODES
    assert torch.equal(found, centroids(frames, seed=0))


def test_fewer_frames_than_centroids_will_do() -> None:
    frames = torch.randn(40, MEASURES, generator=torch.Generator().manual_seed(0))
    found = centroids(frames, seed=0)
    assert found.shape == (CODES, MEASURES)
    assert (frames - found[codes(frames, found)]).abs().max() < 1e-6


def test_a_voice_is_measured_over_all_its_frames() -> None:
    first, second = torch.zeros(10, MEASURES), torch.full((30, MEASURES), 4.0)
    origin, unit = of_voice([first, second])
    torch.testing.assert_close(origin, torch.full((MEASURES,), 3.0))
    deviation = math.sqrt(40 / 39 * 3.0)
    assert unit[0].item() == pytest.approx(deviation)
    assert unit[-1].item() == pytest.approx(deviation / 3), "pitch counts three times"
    assert of_voice([first])[1].min() > 0.0
