from __future__ import annotations

import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

from components.features.power_mel import PowerMel, htk_filters
from core.errors import ConfigError


def oracle(samples: np.ndarray) -> np.ndarray:
    """The definition in float64: frames, a sum of cosines, triangles; no transform is shared."""
    padded = np.pad(samples.astype(np.float64), 512, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    count = 1 + samples.size // 256
    frames = np.stack([padded[256 * t : 256 * t + 1024] * window for t in range(count)])
    angles = 2 * np.pi * np.outer(np.arange(1024), np.arange(513)) / 1024
    power = (frames @ np.cos(angles)) ** 2 + (frames @ np.sin(angles)) ** 2
    top = 2595 * np.log10(1 + 11025 / 700)
    edges = 700 * (10 ** (np.arange(82) * top / 81 / 2595) - 1)
    hertz = np.arange(513) * 22050 / 1024
    bands = np.zeros((513, 80))
    for band in range(80):
        low, middle, high = edges[band : band + 3]
        up, down = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
        bands[:, band] = np.maximum(0, np.minimum(up, down))
    return np.log(np.maximum(power @ bands, 1e-5))


@pytest.mark.parametrize("count", [513, 1024, 5000, 22050])
def test_it_is_the_definition_in_float64(count: int) -> None:
    rng = np.random.default_rng(count)
    time = np.arange(count) / 22050
    samples = (0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * rng.standard_normal(count)).astype(
        np.float32
    )
    mel, frames = PowerMel()(torch.from_numpy(samples)[None], torch.tensor([count]))
    assert mel.shape == (1, 1 + count // 256, 80)
    assert frames.tolist() == [1 + count // 256]
    np.testing.assert_allclose(mel[0].numpy(), oracle(samples), atol=2e-3)


def test_it_is_what_torchaudio_computes_by_default() -> None:
    audio = torch.randn(1, 30000, generator=torch.Generator().manual_seed(0))
    theirs = MelSpectrogram(sample_rate=22050, n_fft=1024, hop_length=256, n_mels=80)(audio)
    mel, _ = PowerMel()(audio, torch.tensor([30000]))
    wanted = theirs.clamp(min=1e-5).log().transpose(1, 2)
    torch.testing.assert_close(mel, wanted, atol=2e-3, rtol=0)


def test_silence_is_the_floor() -> None:
    mel, _ = PowerMel()(torch.zeros(1, 3000), torch.tensor([3000]))
    assert torch.allclose(mel, torch.tensor(1e-5).log().expand_as(mel))


def test_padding_in_a_batch_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(3, 9000, generator=generator)
    lengths = torch.tensor([9000, 4321, 300])
    mel, frames = PowerMel()(audio, lengths)
    assert frames.tolist() == [36, 17, 2]
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, _ = PowerMel()(audio[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(mel[row, :count], alone[0], atol=1e-4, rtol=0)
        assert not mel[row, count:].any()


def test_deaf_filters_are_refused() -> None:
    with pytest.raises(ConfigError, match="of 80 filters lie between two points"):
        htk_filters(num_bins=80, n_fft=128, sample_rate=22050)
