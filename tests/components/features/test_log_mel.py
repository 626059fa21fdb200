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


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_reflected_utterance_alone_equals_it_in_a_padded_batch(normalization: Any) -> None:
    torch.manual_seed(0)
    features = LogMel(normalization=normalization, edges="reflect").eval()
    lengths = torch.tensor([8000, 5003, 300, 161, 160, 100, 2, 1, 0])
    audio = torch.randn(9, 9000)
    together, frames = features(audio, lengths)
    assert together.shape[1] == 1 + 9000 // 160
    assert frames.tolist() == [51, 32, 2, 2, 2, 1, 1, 1, 0]
    assert frames.tolist() == features.output_lengths(lengths).tolist()
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, _ = features(audio[row : row + 1, : max(length, 1)], lengths[row : row + 1])
        torch.testing.assert_close(alone[0, :count], together[row, :count], atol=1e-5, rtol=1e-5)
        assert not together[row, count:].any()


@pytest.mark.parametrize("samples", [1, 2, 100, 160, 256, 257, 1700])
def test_reflected_edges_equal_the_definition_frame_by_frame(samples: int) -> None:
    signal = np.random.default_rng(samples).standard_normal(samples) * 0.1
    audio = torch.zeros(2, 2000)  # beside a longer utterance
    audio[0, :samples] = torch.from_numpy(signal)
    audio[1] = 1.0
    features = LogMel(normalization="none", edges="reflect").eval()
    got, frames = features(audio, torch.tensor([samples, 2000]))
    assert frames.tolist() == [1 + samples // 160, 13]
    emphasised = np.append(signal[0], signal[1:] - 0.97 * signal[:-1])
    mirrored = np.pad(emphasised, 256, mode="reflect")
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399), 56)
    for frame in range(1 + samples // 160):
        power = np.abs(np.fft.rfft(mirrored[160 * frame : 160 * frame + 512] * window)) ** 2
        expected = np.log(power @ features.filters.double().numpy() + 2.0**-24)
        np.testing.assert_allclose(got[0, frame].numpy(), expected, atol=1e-3)


def test_edges_touch_only_the_frames_whose_windows_reach_past_an_end() -> None:
    torch.manual_seed(0)
    audio, lengths = torch.randn(1, 4000), torch.tensor([4000])
    zeros, _ = LogMel(normalization="none").eval()(audio, lengths)
    mirrored, _ = LogMel(normalization="none", edges="reflect").eval()(audio, lengths)
    assert (zeros.shape[1], mirrored.shape[1]) == (25, 26)
    same = torch.isclose(zeros[0], mirrored[0, :25], atol=1e-5).all(1)
    assert same.tolist() == [False, False] + [True] * 22 + [False]


@pytest.mark.parametrize(
    ("pad_to", "edges", "expected"),
    [
        (1, "zeros", {1: 1, 159: 1, 160: 1, 1599: 9, 2399: 14, 2400: 15}),
        (0, "zeros", {1: 1, 159: 1, 160: 2, 1599: 10, 2399: 15, 2400: 16}),
        (16, "zeros", {1: 16, 159: 16, 160: 16, 1599: 16, 2399: 16, 2400: 16, 2560: 32}),
        (8, "zeros", {1: 8, 159: 8, 1119: 8, 1120: 8, 1280: 16}),
        (1, "reflect", {1: 1, 159: 1, 160: 2, 2399: 15}),
        (0, "reflect", {1: 1, 159: 1, 160: 2, 2399: 15}),
        (16, "reflect", {1: 16, 2400: 16, 2560: 32}),
    ],
)
def test_frame_axis_is_padded_with_zeros_that_change_no_frame(
    pad_to: int, edges: Any, expected: dict[int, int]
) -> None:
    torch.manual_seed(0)
    features = LogMel(pad_to=pad_to, edges=edges).eval()
    plain = LogMel(edges=edges).eval()
    for samples, frames in expected.items():
        audio, lengths = torch.randn(2, samples), torch.tensor([samples, samples // 2])
        mel, counts = features(audio, lengths)
        reference, plain_counts = plain(audio, lengths)
        assert mel.shape == (2, frames, 80)
        assert counts.tolist() == plain_counts.tolist()
        shared = min(frames, reference.shape[1])
        assert torch.equal(mel[:, :shared], reference[:, :shared])
        for row, count in enumerate(counts.tolist()):
            assert not mel[row, count:].any()


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


@pytest.mark.parametrize("edges", ["zeros", "reflect"])
@pytest.mark.parametrize("pad_to", [1, 16])
@pytest.mark.parametrize("samples", [1, 100, 160, 200, 255, 256, 513])
def test_very_short_audio_is_finite_with_any_edges(samples: int, pad_to: int, edges: Any) -> None:
    torch.manual_seed(0)
    for normalization in NORMALIZATIONS:
        features = LogMel(normalization=normalization, pad_to=pad_to, edges=edges)  # type: ignore[arg-type]
        mel, frames = features(torch.randn(2, samples), torch.tensor([samples, 0]))
        assert mel.isfinite().all()
        assert frames.tolist() == [samples // 160 + (edges == "reflect"), 0]
        assert not mel[1].any()


@pytest.mark.parametrize("edges", ["zeros", "reflect"])
@pytest.mark.parametrize("normalization", ["per_feature", "per_utterance"])
def test_silence_normalises_to_exactly_zero(normalization: Any, edges: Any) -> None:
    features = LogMel(normalization=normalization, edges=edges).eval()
    mel, _ = features(torch.zeros(2, 320000), torch.tensor([320000, 70001]))
    assert not mel.any()


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


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ConfigError, match="pad_to must not be negative, found -1"):
        LogMel(pad_to=-1)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize(
    ("name", "bins", "normalization", "pad_to", "size"),
    [
        ("nest80", 80, "per_feature", 16, 224),
        ("nest128", 128, "per_feature", 16, 224),
        ("nest128_na_pad8", 128, "none", 8, 216),
        ("allfeat80", 80, "per_utterance", 16, 224),
        ("raw80_pad0", 80, "none", 0, 209),
    ],
)
def test_equals_nemo(name: str, bins: int, normalization: Any, pad_to: int, size: int) -> None:
    golden = load_file(GOLDEN)
    features = LogMel(num_bins=bins, normalization=normalization, pad_to=pad_to).eval()
    torch.testing.assert_close(features.window, golden["window"], atol=1e-6, rtol=0)
    got, frames = features(golden["audio"], golden["audio_len"])
    assert frames.tolist() == golden[f"{name}.len"].tolist()
    assert got.shape == (4, size, bins)
    expected = golden[f"{name}.feats"].transpose(1, 2)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    for row, count in enumerate(frames.tolist()):
        assert not got[row, count:].any()
