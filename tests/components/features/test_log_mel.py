from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.features.log_mel import LogMel
from core.errors import ConfigError

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest/features.safetensors"
NORMALIZATIONS = ["per_utterance", "per_feature", "none"]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_utterance_alone_equals_utterance_in_a_padded_batch(normalization: Any) -> None:
    torch.manual_seed(0)
    features = LogMel(normalization=normalization).eval()
    lengths = torch.tensor([8000, 5003, 161, 160, 1])
    audio = torch.randn(5, 9000)  # what lies past a length is noise and must not be seen
    together, frames = features(audio, lengths)
    assert frames.tolist() == [50, 31, 1, 1, 0] == features.output_lengths(lengths).tolist()
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, _ = features(audio[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone[0, :count], together[row, :count], atol=1e-5, rtol=1e-5)
        assert not together[row, count:].any()
        assert not alone[0, count:].any()


def test_equals_the_definition_frame_by_frame() -> None:
    generator = np.random.default_rng(0)
    signal = generator.standard_normal(1700) * 0.1
    features = LogMel(sample_rate=8000, num_bins=20, normalization="none").eval()
    got, frames = features(torch.from_numpy(signal).float().unsqueeze(0), torch.tensor([1700]))
    assert (features.n_fft, features.hop, frames.item()) == (256, 80, 21)
    emphasised = np.append(signal[0], signal[1:] - 0.97 * signal[:-1])
    padded = np.pad(emphasised, 100)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 199)
    for frame in range(21):
        power = np.abs(np.fft.rfft(padded[80 * frame : 80 * frame + 200] * window, 256)) ** 2
        expected = np.log(power @ features.filters.double().numpy() + 2.0**-24)
        np.testing.assert_allclose(got[0, frame].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("normalization", ["per_feature", "per_utterance"])
def test_normalised_features_have_mean_zero_and_variance_one(normalization: Any) -> None:
    torch.manual_seed(0)
    features = LogMel(normalization=normalization).eval()
    mel, frames = features(torch.randn(1, 16000), torch.tensor([12000]))
    real = mel[0, : int(frames)]
    axis = (0,) if normalization == "per_feature" else (0, 1)
    torch.testing.assert_close(
        real.mean(axis), torch.zeros(real.mean(axis).shape), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(real.std(axis), torch.ones(real.std(axis).shape), atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 400])
def test_very_short_and_silent_audio_is_finite(samples: int, normalization: Any) -> None:
    features = LogMel(normalization=normalization).train()
    for audio in (torch.zeros(2, samples), torch.ones(2, samples)):
        mel, frames = features(audio, torch.tensor([samples, 1]))
        assert mel.shape == (2, max(samples // 160, 1), 80)
        assert frames.tolist() == [samples // 160, 0]
        assert mel.isfinite().all()


def test_dither_acts_in_training_only() -> None:
    torch.manual_seed(0)
    features = LogMel(dither=1e-2, normalization="none")
    audio, lengths = torch.zeros(1, 1600), torch.tensor([1600])
    silent, _ = features.eval()(audio, lengths)
    torch.testing.assert_close(silent[0, 0, 0].item(), np.log(2.0**-24), rtol=1e-4, atol=0)
    noisy, _ = features.train()(audio, lengths)
    assert (noisy > silent).all()
    assert not audio.any()  # the caller's samples are left as they are


def test_autocast_does_not_touch_the_numbers() -> None:
    features = LogMel().eval()
    audio, lengths = torch.randn(1, 4000), torch.tensor([4000])
    expected, _ = features(audio, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = features(audio, lengths)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


def test_window_longer_than_the_transform_is_refused() -> None:
    with pytest.raises(ConfigError, match="window of 400 samples, found 256"):
        LogMel(n_fft=256)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize(
    ("name", "bins", "normalization"),
    [
        ("nest80", 80, "per_feature"),
        ("nest128", 128, "per_feature"),
        ("allfeat80", 80, "per_utterance"),
        ("raw80_pad0", 80, "none"),
    ],
)
def test_equals_nemo(name: str, bins: int, normalization: Any) -> None:
    golden = load_file(GOLDEN)
    features = LogMel(num_bins=bins, normalization=normalization).eval()
    torch.testing.assert_close(features.filters.T, golden[f"{name}.fb"][0], atol=1e-6, rtol=1e-4)
    got, frames = features(golden["audio"], golden["audio_len"])
    assert frames.tolist() == golden[f"{name}.len"].tolist()
    for row, count in enumerate(frames.tolist()):
        expected = golden[f"{name}.feats"][row, :, :count].T
        torch.testing.assert_close(got[row, :count], expected, atol=1e-4, rtol=0)
