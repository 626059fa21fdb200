from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchaudio.functional as AF
from safetensors.torch import load_file

from components.features.mel import hz_to_mel, mel_filters, mel_to_hz
from core.errors import ConfigError

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest/features.safetensors"


def test_scale_is_linear_to_1000_hz_and_27_steps_from_there_to_6400() -> None:
    assert hz_to_mel(0.0) == 0.0
    assert hz_to_mel(500.0) == pytest.approx(7.5)
    assert hz_to_mel(1000.0) == pytest.approx(15.0)
    assert hz_to_mel(6400.0) == pytest.approx(42.0)
    hertz = [0.0, 300.0, 999.0, 1000.0, 4000.0, 11025.0]
    mels = torch.tensor([hz_to_mel(value) for value in hertz], dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(mels), torch.tensor(hertz, dtype=torch.float64))


def test_filters_of_a_fine_transform_have_area_one() -> None:
    filters = mel_filters(
        num_bins=40, n_fft=32768, sample_rate=16000, min_frequency=50.0, max_frequency=7000.0
    )
    areas = filters.double().sum(0) * (16000 / 32768)
    torch.testing.assert_close(areas, torch.ones(40, dtype=torch.float64), atol=1e-3, rtol=0)
    frequency = torch.arange(16385) * (16000 / 32768)
    reached = frequency[filters.any(1)]
    assert 50.0 <= reached.min() < 51.0
    assert 6999.0 < reached.max() <= 7000.0


@pytest.mark.parametrize("bins", [23, 80])
def test_equal_torchaudio_to_its_precision(bins: int) -> None:
    got = mel_filters(
        num_bins=bins, n_fft=512, sample_rate=16000, min_frequency=20.0, max_frequency=7600.0
    )
    expected = AF.melscale_fbanks(257, 20.0, 7600.0, bins, 16000, norm="slaney", mel_scale="slaney")
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


def test_a_filter_between_two_points_of_the_transform_is_refused() -> None:
    options = {"n_fft": 512, "sample_rate": 16000, "min_frequency": 0.0, "max_frequency": 8000.0}
    assert mel_filters(num_bins=128, **options).any(0).all()  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="of 256 filters lie between two points"):
        mel_filters(num_bins=256, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize(("name", "bins"), [("nest80", 80), ("nest128", 128)])
def test_equal_those_of_nemo_to_the_last_digit_but_one(name: str, bins: int) -> None:
    golden = load_file(GOLDEN)[f"{name}.fb"][0].T
    got = mel_filters(
        num_bins=bins, n_fft=512, sample_rate=16000, min_frequency=0.0, max_frequency=8000.0
    )
    torch.testing.assert_close(got, golden, atol=1e-9, rtol=3e-7)
