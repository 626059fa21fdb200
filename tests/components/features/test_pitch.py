from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from components.features.pitch import RATE, pitch


def voiced(audio: Tensor) -> Tensor:
    track = pitch(audio)
    return track[track > 0]


def voice(hertz: float, *, seconds: float = 1.0, harmonics: int = 6) -> Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    parts = [
        torch.sin(2 * math.pi * hertz * k * time + k) / k
        for k in range(1, harmonics + 1)
        if hertz * k < RATE / 2
    ]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("hertz", [65.0, 110.0, 187.3, 320.0, 480.0])
def test_a_steady_voice_has_its_frequency_in_every_frame(hertz: float) -> None:
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    found = voiced(voice(hertz) + 0.02 * noise)
    assert len(found) > 90
    assert float((found / hertz - 1.0).abs().max()) < 0.01


def test_a_voice_without_its_fundamental_has_it_all_the_same() -> None:
    found = voiced(voice(120.0) - voice(120.0, harmonics=1))
    assert float((found.median() / 120.0 - 1.0).abs()) < 0.01


def test_a_glide_is_followed() -> None:
    time = torch.arange(2 * RATE) / RATE
    phase = 2 * math.pi * (100.0 * time + 25.0 * time.square())
    found = voiced(torch.sin(phase) + 0.5 * torch.sin(2 * phase))
    assert float(found[:5].mean()) == pytest.approx(101.0, abs=3.0)
    assert float(found[-5:].mean()) == pytest.approx(198.0, abs=3.0)
    assert bool((found.diff() > -1.0).all())


def test_noise_silence_and_pauses_are_not_voiced() -> None:
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    assert len(voiced(noise)) < 3
    assert len(voiced(torch.zeros(RATE))) == 0
    assert len(voiced(torch.zeros(10))) == 0
    assert len(pitch(torch.zeros(RATE))) == 1 + (RATE - 400) // 80
    assert len(pitch(torch.zeros(RATE), hop=100)) == 1 + (RATE - 400) // 100
    paused = torch.cat([voice(150.0), torch.zeros(RATE)])
    assert 90 < len(voiced(paused)) < 105


def test_loudness_does_not_matter() -> None:
    torch.testing.assert_close(
        voiced(voice(200.0)), voiced(0.01 * voice(200.0)), rtol=1e-3, atol=0.0
    )
