from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from components.features.whisper import (
    Trimmed,
    WhisperFeatures,
    chunk_count,
    frame_count,
    restore,
    restore_into,
    trim,
)
from core.errors import DataError

LENGTHS = {
    "one sample": 1,
    "less than a hop": 159,
    "a hop": 160,
    "a hop and one": 161,
    "0.1 s": 1600,
    "30 s less a frame": 479_840,
    "30 s less one": 479_999,
    "30.0 s": 480_000,
    "30 s and one": 480_001,
    "30.01 s": 480_160,
    "61 s": 976_000,
}


def oracle(audio: Tensor) -> Tensor:
    """Let Voxtral's processor make the features, with its own settings."""
    from transformers import WhisperFeatureExtractor
    from transformers.models.voxtral.processing_voxtral import VoxtralProcessor

    processor = SimpleNamespace(feature_extractor=WhisperFeatureExtractor(feature_size=128))
    made: Tensor = VoxtralProcessor._retrieve_input_features(
        processor, [audio.numpy()], **VoxtralProcessor.audio_kwargs
    )
    return made


def audio_of(kind: str, samples: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    time = np.arange(samples)
    made = {
        "silence": np.zeros(samples),
        "noise": 0.1 * rng.standard_normal(samples),
        "beyond 1": 3 * rng.standard_normal(samples),
        "clipped": np.clip(3 * rng.standard_normal(samples), -1, 1),
        "quiet": 1e-4 * np.sin(0.05 * time),
        "first sample": 1.0 * (time == 0),
        "last sample": 1.0 * (time == samples - 1),
    }
    return torch.from_numpy(made[kind].astype(np.float32))


KINDS = ("silence", "noise", "beyond 1", "clipped", "quiet", "first sample", "last sample")


@pytest.mark.parametrize("samples", LENGTHS.values(), ids=LENGTHS)
def test_trimmed_features_come_back_bit_for_bit(samples: int) -> None:
    transform = WhisperFeatures()
    for kind in KINDS:
        audio = audio_of(kind, samples)
        features = transform(audio)
        assert torch.equal(features, oracle(audio))
        assert features.shape == (chunk_count(samples), 128, 3000)
        trimmed = trim(features, samples=samples)
        assert trimmed.frames.shape == (128, frame_count(samples))
        assert torch.equal(restore(trimmed), features), kind
        rounded = Trimmed(
            frames=trimmed.frames.bfloat16(), fill=trimmed.fill, samples=trimmed.samples
        )
        assert torch.equal(restore(rounded), features.bfloat16()), kind


def test_random_clips_come_back_bit_for_bit() -> None:
    transform = WhisperFeatures()
    lengths = np.random.default_rng(7).integers(1, 400_000, 60).tolist()
    for seed, samples in enumerate(lengths):
        features = transform(audio_of(KINDS[1 + seed % 4], samples, seed))
        assert torch.equal(restore(trim(features, samples=samples)), features)


def test_the_constant_is_one_of_all_chunks_and_measured() -> None:
    """The loudest value of the first chunk decides what the last one is filled with."""
    audio = torch.cat([audio_of("beyond 1", 480_000), audio_of("quiet", 16_000)])
    features = WhisperFeatures()(audio)
    trimmed = trim(features, samples=audio.numel())
    assert trimmed.fill == pytest.approx(features.max().item() - 2.0, abs=1e-6)
    assert trimmed.fill > features[1, :, :100].max().item() - 2.0
    computed = 0
    for seed in range(60):
        features = WhisperFeatures()(audio_of("noise", 1600 + seed, seed))
        formula = torch.maximum(torch.tensor(-1.5), features.max() - 2.0).item()
        computed += trim(features, samples=1600 + seed).fill == formula
    assert 0 < computed < 60, "the formula alone is not exact: it rounds elsewhere"


@pytest.mark.parametrize(("seconds", "chunks"), [(1, 1), (25, 1), (30.0, 1), (30.01, 2), (61, 3)])
def test_chunks(seconds: float, chunks: int) -> None:
    assert chunk_count(round(16000 * seconds)) == chunks


@pytest.mark.parametrize(
    "audio", [torch.zeros(0), torch.zeros(2, 5), torch.zeros(5, dtype=torch.float64)]
)
def test_other_audio_is_refused(audio: Tensor) -> None:
    with pytest.raises(DataError, match=r"expected \(S,\), S > 0, torch\.float32"):
        WhisperFeatures()(audio)


def test_what_cannot_be_trimmed_or_restored_is_refused() -> None:
    features = WhisperFeatures()(audio_of("noise", 1600))
    with pytest.raises(DataError, match=r"expected \(2, 128, 3000\)"):
        trim(features, samples=480_001)
    changed = features.clone()
    changed[0, 5, 2000] += 1e-3
    with pytest.raises(DataError, match="not constant"):
        trim(changed, samples=1600)
    trimmed = trim(features, samples=1600)
    with pytest.raises(DataError, match=r"expected \(128, 13\)"):
        restore(Trimmed(frames=trimmed.frames, fill=trimmed.fill, samples=1601))


def test_settings_name_the_extractor_and_its_version() -> None:
    import transformers

    settings = WhisperFeatures().settings
    assert settings["feature_size"] == 128
    assert settings["n_samples"] == 480_000
    assert settings["transformers"] == transformers.__version__


def test_the_constant_is_rounded_as_torch_rounds() -> None:
    """Every float32 of 2,000 bit patterns around midpoints, and what a processor gives."""
    patterns = torch.arange(0x3F7F7F00, 0x3F7F7F00 + 2000, dtype=torch.int32)
    numbers = torch.cat([patterns.view(torch.float32), -patterns.view(torch.float32)])
    frames = np.zeros((128, frame_count(160)), dtype=np.int16)
    room = np.empty((1, 128, 3000), dtype=np.int16)
    wanted = numbers.bfloat16().view(torch.int16).tolist()
    for number, bits in zip(numbers.tolist(), wanted, strict=True):
        restore_into(room[:, :, :10], frames, number, 160)
        assert room[0, 5, 9] == bits, number
