from __future__ import annotations

import numpy as np
import pytest
import torchaudio.functional as AF

pytest.importorskip("matplotlib")

from components.visuals.spectrogram import mel_bin, spectrogram_image


def test_frequencies_are_where_the_filters_of_torchaudio_are() -> None:
    filters = AF.melscale_fbanks(
        8001, f_min=0.0, f_max=8000.0, n_mels=80, sample_rate=16000, norm=None, mel_scale="slaney"
    )
    peaks = filters.argmax(dim=0).tolist()
    for index in (0, 5, 20, 40, 60, 79):
        assert mel_bin(peaks[index], bins=80, sample_rate=16000) == pytest.approx(
            index + 0.5, abs=0.05
        )
    assert mel_bin(0, bins=80, sample_rate=16000) == -0.5
    assert mel_bin(8000, bins=80, sample_rate=16000) == 80.5


def test_high_bins_are_at_the_top_and_time_runs_to_the_right() -> None:
    features = np.zeros((100, 40), dtype=np.float32)
    features[70:, 30:] = 1.0
    pixels = spectrogram_image(features, seconds_per_frame=0.01).astype(int).sum(axis=2)
    inside = pixels[40:340, 60:790]
    height, width = inside.shape
    quarters = {
        "top right": inside[: height // 5, -width // 5 :],
        "top left": inside[: height // 5, : width // 5],
        "bottom right": inside[-height // 5 :, -width // 5 :],
    }
    brightness = {name: quarter.mean() for name, quarter in quarters.items()}
    assert brightness["top right"] > 600
    assert brightness["top left"] < 100
    assert brightness["bottom right"] < 100


@pytest.mark.parametrize(
    "features",
    [np.zeros((0, 80)), np.zeros((1, 80)), np.full((5, 80), np.nan), np.full((5, 8), -np.inf)],
)
@pytest.mark.filterwarnings("error")
def test_odd_features_still_give_a_picture(features: np.ndarray) -> None:
    pixels = spectrogram_image(features, seconds_per_frame=0.01, sample_rate=16000, title="odd")
    assert pixels.shape == (400, 900, 3)
