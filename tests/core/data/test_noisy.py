from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from components.augmentations.multi_speaker_noise import MultiSpeakerNoise
from components.datasets.nemo import NemoSource
from components.datasets.synthetic_noise import SyntheticNoise
from core.contracts import Eventful, NoisySpeechBatch
from core.data.audio import AudioError
from core.data.noise import NoiseSampler
from core.data.noisy import NoisyCollator
from tests.core.data.corpus_files import RATE, write_corpus, write_lines

DURATIONS = [0.3, 0.5, 0.9, 1.2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> NemoSource:
    source = NemoSource(
        location=str(write_corpus(tmp_path_factory.mktemp("corpus"), DURATIONS)),
    )
    source.open(None)
    return source


def collator(**changes: Any) -> NoisyCollator:
    values: dict[str, Any] = {
        "sample_rate": RATE,
        "channel": "refuse",
        "repeat_to": 0,
        "noise": NoiseSampler(source=SyntheticNoise(), sample_rate=RATE),
        "mixer": MultiSpeakerNoise(prob=1.0, noise_ratio=0.5),
        "seed": "0/train",
    }
    return NoisyCollator(**(values | changes))


def made(source: NemoSource, key: tuple[int, ...] = (0, 1), **changes: Any) -> NoisySpeechBatch:
    return collator(**changes)([source.cut(i) for i in range(len(source))], key)


def noisy(batch: NoisySpeechBatch) -> torch.Tensor:
    assert batch.noisy_audio is not None
    return batch.noisy_audio.values


def clean(batch: NoisySpeechBatch) -> torch.Tensor:
    assert batch.clean_audio is not None
    return batch.clean_audio.values


def test_a_batch_holds_what_was_said_and_what_is_heard(source: NemoSource) -> None:
    batch = made(source)
    assert isinstance(batch, Eventful)
    assert batch.clean_audio is not None
    assert batch.noisy_audio is not None
    lengths = [round(seconds * RATE) for seconds in DURATIONS]
    assert batch.clean_audio.lengths.tolist() == batch.noisy_audio.lengths.tolist() == lengths
    assert (clean(batch) != noisy(batch)).any(dim=1).all()
    for row, length in zip(noisy(batch), lengths, strict=True):
        assert not row[length:].any()
    assert batch.speakers == ("s0", "s1", "s2", "s0")
    assert batch.events == {}
    assert batch.seconds == pytest.approx(sum(DURATIONS))


def test_noise_is_a_function_of_seed_and_key(source: NemoSource) -> None:
    assert torch.equal(noisy(made(source)), noisy(made(source)))
    assert not torch.equal(noisy(made(source)), noisy(made(source, key=(1, 1))))
    assert not torch.equal(noisy(made(source)), noisy(made(source, seed="1/train")))


def test_without_augmentation_what_is_heard_is_what_was_said(source: NemoSource) -> None:
    batch = made(source, mixer=None)
    assert torch.equal(noisy(batch), clean(batch))


def test_short_audio_is_repeated_and_counted(source: NemoSource) -> None:
    batch = made(source, repeat_to=RATE)
    assert batch.clean_audio is not None
    assert batch.clean_audio.lengths.tolist() == [RATE, RATE, RATE, round(1.2 * RATE)]
    short = round(0.3 * RATE)
    assert torch.equal(clean(batch)[0, :short], clean(batch)[0, short : 2 * short])
    assert batch.events["repeated clips"] == 3


def test_faithful_lengths_are_those_of_the_noise(source: NemoSource) -> None:
    mixer = MultiSpeakerNoise(prob=0.0, unaugmented="raw_noise", unaugmented_length="noise")
    brief = NoiseSampler(source=SyntheticNoise(seconds=0.4), sample_rate=RATE)
    batch = made(source, mixer=mixer, noise=brief)
    assert batch.noisy_audio is not None
    assert batch.noisy_audio.lengths.tolist() == [round(s * RATE) for s in (0.3, 0.4, 0.4, 0.4)]
    assert not noisy(batch)[1, round(0.4 * RATE) :].any(), "nothing lies beyond a length"
    assert batch.clean_audio is not None
    assert int(batch.clean_audio.lengths[1]) == round(0.5 * RATE)
    without = made(source, mixer=mixer, noise=None)
    assert torch.equal(noisy(without), clean(without))
    assert without.noisy_audio is not None
    assert without.clean_audio is not None
    assert torch.equal(without.noisy_audio.lengths, without.clean_audio.lengths)


def test_what_cannot_be_read_is_named_and_the_rest_is_used(source: NemoSource) -> None:
    gone = AudioError(reason="missing file", detail="x.wav", utterance="x")
    batch = collator()([source.cut(0), gone, source.cut(1)], (0,))
    assert batch.ids == (source.cut(0).id, source.cut(1).id)
    assert [item.reason for item in batch.skipped] == ["missing file"]
    empty = collator()([gone], (0,))
    assert (len(empty), len(empty.skipped), empty.seconds) == (0, 1, 0.0)
    assert clean(empty).dtype == noisy(empty).dtype == torch.float32


@pytest.mark.parametrize("noise_ratio", [0.0, 1.0])
@pytest.mark.parametrize("samples", [1, 100, 1279, 6399])
def test_silent_and_very_short_clips_are_finite_and_counted(
    tmp_path: Path, samples: int, noise_ratio: float
) -> None:
    """8 frames of 10 ms are 1280 samples, and a block of 40 frames is 6400."""
    soundfile.write(tmp_path / "silent.wav", np.zeros(samples), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", np.full(samples, 0.1), RATE, subtype="FLOAT")
    rows = [
        {"audio_filepath": name, "duration": samples / RATE} for name in ("silent.wav", "short.wav")
    ]
    source = NemoSource(location=str(write_lines(tmp_path / "m.jsonl", rows)))
    source.open(None)
    mixer = MultiSpeakerNoise(prob=1.0, noise_ratio=noise_ratio, segments=(1, 4))
    batch = made(source, mixer=mixer)
    assert len(batch) == 2
    assert torch.isfinite(noisy(batch)).all()
    assert batch.events["silent clips"] == 1
    alone = collator(mixer=mixer)([source.cut(1)], (0,))
    assert torch.isfinite(noisy(alone)).all()
    assert alone.events == ({} if noise_ratio else {"no other speaker": 1})


def test_the_global_generators_are_left_alone(source: NemoSource) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made(source)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_collator_travels_to_workers(source: NemoSource) -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(collator()))
    cuts = [source.cut(0), source.cut(1)]
    assert torch.equal(noisy(copy(cuts, (3,))), noisy(collator()(cuts, (3,))))
    assert replace(copy, seed="other").seed == "other"
