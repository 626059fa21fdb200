from __future__ import annotations

from typing import Any

import pytest
import torch

from core.contracts import Batch, Eventful, NoisySpeechBatch, Padded
from core.errors import DataError


def frames(rows: int = 2) -> Padded:
    return Padded(values=torch.ones(rows, 30, 80), lengths=torch.tensor([30, 20][:rows]))


def audio(rows: int = 2) -> Padded:
    return Padded(values=torch.ones(rows, 16000), lengths=torch.tensor([16000, 8000][:rows]))


def batch(**given: Any) -> NoisySpeechBatch:
    return NoisySpeechBatch(ids=("a", "b"), sample_rate=16000, **given)


def test_audio_and_features_have_their_seconds() -> None:
    heard = batch(clean_audio=audio(), noisy_audio=audio(), events={"noise retries": 1})
    assert isinstance(heard, Batch)
    assert isinstance(heard, Eventful)
    assert (heard.seconds, heard.padded_seconds) == (1.5, 2.0)
    seen = batch(clean_features=frames(), noisy_features=frames(), seconds_per_frame=0.01)
    assert seen.seconds == pytest.approx(0.5)
    assert seen.padded_seconds == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "found neither"),
        ({"clean_audio": audio()}, "found clean_audio"),
        ({"clean_features": frames()}, "found clean_features"),
        ({"clean_audio": audio(), "noisy_features": frames()}, "clean_audio, noisy_features"),
        (
            {"clean_audio": audio(), "noisy_audio": audio(), "clean_features": frames()},
            "either audio or features, not both; found clean_audio, noisy_audio, clean_features",
        ),
        (
            {
                "clean_audio": audio(),
                "noisy_audio": audio(),
                "clean_features": frames(),
                "noisy_features": frames(),
            },
            "not both",
        ),
    ],
)
def test_input_is_one_whole_form(given: dict[str, Padded], message: str) -> None:
    with pytest.raises(DataError, match=message):
        batch(**given)


def test_moving_keeps_everything_else() -> None:
    made = batch(clean_audio=audio(), noisy_audio=audio(), events={"x": 1})
    moved = made.to(torch.device("meta"))
    assert moved.clean_audio is not None
    assert moved.clean_audio.values.device.type == "meta"
    assert moved.clean_features is None
    assert (moved.ids, moved.events) == (made.ids, made.events)
