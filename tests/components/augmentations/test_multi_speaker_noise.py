from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from components.augmentations.multi_speaker_noise import MultiSpeakerNoise
from core.data.noisy import Mixed
from core.errors import ConfigError

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "nest" / "augmentation.safetensors"
CASES = ("skipped", "noise_only", "speech_only", "default_yaml", "multi")
FAITHFUL: dict[str, Any] = {
    "unaugmented": "raw_noise",
    "unaugmented_length": "noise",
    "same_speaker": True,
    "segmentation": "multinomial",
}


def golden() -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return tensors, {case: json.loads(metadata[case]) for case in CASES}


def from_nemo(values: dict[str, float]) -> MultiSpeakerNoise:
    """Return the augmentation of a golden case, whose absent parameters are those of the recipe."""

    def span(low: str, high: str, least: float, most: float) -> tuple[Any, Any]:
        return values.get(low, least), values.get(high, most)

    return MultiSpeakerNoise(
        prob=values["prob"],
        noise_ratio=values["noise_ratio"],
        speech_snr=span("min_r_speech", "max_r_speech", -5.0, 5.0),
        noise_snr=span("min_r_noise", "max_r_noise", -5.0, 20.0),
        mix_rate=span("min_mix_rate", "max_mix_rate", 0.5, 0.5),
        segments=span("min_num_segments", "max_num_segments", 1, 1),
        speakers=span("min_num_speakers", "max_num_speakers", 1, 1),
        **FAITHFUL,
    )


@pytest.mark.skipif(not GOLDEN.is_file(), reason="golden tensors are not here")
@pytest.mark.parametrize("case", CASES)
def test_the_faithful_form_equals_nemo(case: str) -> None:
    tensors, parameters = golden()
    noise, noise_lengths = tensors["noise"], tensors["noise_len"]
    mixed = from_nemo(parameters[case]).mix(
        tensors["audio"],
        tensors["audio_len"],
        noise=lambda i: noise[i, : int(noise_lengths[i])],
        speakers=(None,) * 4,
        rng=random.Random(123),
    )
    difference = (mixed.audio - tensors[f"{case}.noisy_audio"]).abs().max()
    assert float(difference) < 1e-6
    assert torch.equal(mixed.lengths, tensors[f"{case}.noisy_audio_len"])


def batch(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    audio = torch.zeros(len(lengths), max(lengths))
    for row, length in zip(audio, lengths, strict=True):
        row[:length] = 0.1 * torch.randn(length, generator=generator)
    return audio, torch.tensor(lengths)


def hiss(lengths: Tensor, *, share: float = 1.0) -> Callable[[int], Tensor]:
    def draw(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 + index)
        return torch.randn(max(1, int(int(lengths[index]) * share)), generator=generator)

    return draw


def mix(
    audio: Tensor,
    lengths: Tensor,
    *,
    seed: int = 0,
    noise: Callable[[int], Tensor] | None = None,
    of: tuple[str | None, ...] | None = None,
    **options: Any,
) -> Mixed:
    return MultiSpeakerNoise(**options).mix(
        audio,
        lengths,
        noise=noise,
        speakers=of or (None,) * len(audio),
        rng=random.Random(seed),
    )


def decibels(speech: Tensor, added: Tensor) -> float:
    return 10 * math.log10(float(speech.square().mean() / added.square().mean()))


@pytest.mark.parametrize("noise_ratio", [0.0, 1.0])
@pytest.mark.parametrize("mix_rate", [0.2, 0.7, 1.0])
def test_the_ratio_asked_for_is_the_ratio_measured(noise_ratio: float, mix_rate: float) -> None:
    audio, lengths = batch(4000, 3000, 2000)
    mixed = mix(
        audio,
        lengths,
        noise=hiss(lengths, share=0.3),
        prob=1.0,
        noise_ratio=noise_ratio,
        speech_snr=(3.0, 3.0),
        noise_snr=(3.0, 3.0),
        mix_rate=(mix_rate, mix_rate),
        segments=(1, 4),
        speakers=(1, 3),
    )
    assert torch.equal(mixed.lengths, lengths)
    for row, clean, length in zip(mixed.audio, audio, lengths.tolist(), strict=True):
        added = (row - clean)[:length]
        assert decibels(clean[:length], added) == pytest.approx(3.0, abs=0.01)
        touched = int((added != 0).sum())
        assert touched == pytest.approx(length * mix_rate, abs=3)
        assert not row[length:].any()


def test_what_is_drawn_stays_within_its_bounds() -> None:
    audio, lengths = batch(2000, 2000)
    ratios, shares = [], []
    for seed in range(200):
        mixed = mix(
            audio,
            lengths,
            seed=seed,
            noise=hiss(lengths),
            prob=1.0,
            noise_ratio=1.0,
            noise_snr=(-5.0, 20.0),
            mix_rate=(0.3, 0.6),
        )
        added = mixed.audio[0] - audio[0]
        ratios.append(decibels(audio[0], added))
        shares.append(float((added != 0).float().mean()))
    assert -5.01 < min(ratios) < -3.5
    assert 18.5 < max(ratios) < 20.01
    assert 0.295 < min(shares) < 0.31
    assert 0.59 < max(shares) < 0.601


def test_an_utterance_that_is_not_augmented_stays_clean_and_whole() -> None:
    audio, lengths = batch(2000, 1500)
    quiet = mix(audio, lengths, noise=hiss(lengths, share=0.5), prob=0.0)
    assert torch.equal(quiet.audio, audio)
    assert torch.equal(quiet.lengths, lengths)
    as_nemo = mix(audio, lengths, noise=hiss(lengths, share=0.5), prob=0.0, **FAITHFUL)
    assert as_nemo.lengths.tolist() == [1000, 750]
    assert not torch.equal(as_nemo.audio, audio)


def test_half_of_the_utterances_are_augmented_half_of_them_with_noise() -> None:
    audio, lengths = batch(*[200] * 400)
    asked: list[int] = []

    def noise(index: int) -> Tensor:
        asked.append(index)
        return hiss(lengths)(index)

    mixed = mix(audio, lengths, noise=noise)
    changed = (mixed.audio != audio).any(dim=1)
    assert 160 < int(changed.sum()) < 240
    assert 70 < len(asked) < 130
    assert changed[asked].all(), "noise is drawn only for those that get some"


def test_a_speaker_is_not_mixed_with_their_own_voice() -> None:
    audio = torch.zeros(3, 1000)
    audio[0], audio[1], audio[2] = 1.0, 2.0, 3.0  # so that what was mixed in can be told
    lengths = torch.tensor([1000] * 3)
    options: dict[str, Any] = {"prob": 1.0, "noise_ratio": 0.0, "speech_snr": (0.0, 0.0)}
    for seed in range(20):
        mixed = mix(audio, lengths, seed=seed, of=("a", "a", "b"), **options)
        assert mixed.events == {}
    alone = mix(audio, lengths, of=("a", "a", "a"), **options)
    assert torch.equal(alone.audio, audio)
    assert alone.events == {"no other speaker": 3}
    for speakers, same in ((("a", "a", "a"), True), ((None, None, None), False)):
        mixed = mix(audio, lengths, of=speakers, same_speaker=same, **options)
        assert (mixed.audio != audio).any(dim=1).all()
        assert mixed.events == {}


def test_who_is_mixed_in_is_another_speaker() -> None:
    time = torch.arange(4000) / 16000
    pitches = (300.0, 500.0, 700.0)
    audio = torch.stack([torch.sin(2 * math.pi * pitch * time) for pitch in pitches])
    lengths = torch.tensor([4000] * 3)
    for seed in range(10):
        mixed = mix(
            audio,
            lengths,
            seed=seed,
            of=("a", "a", "b"),
            prob=1.0,
            noise_ratio=0.0,
            mix_rate=(1.0, 1.0),
        )
        heard = torch.fft.rfft(mixed.audio - audio).abs().argmax(dim=1) * 4
        assert heard[:2].tolist() == [700, 700]
        assert int(heard[2]) in (300, 500)


def test_a_batch_of_one_takes_noise_and_says_so() -> None:
    audio, lengths = batch(1000)
    options: dict[str, Any] = {"prob": 1.0, "noise_ratio": 0.0}
    mixed = mix(audio, lengths, noise=hiss(lengths), **options)
    assert not torch.equal(mixed.audio, audio)
    assert mixed.events == {"no other speaker": 1}
    assert torch.equal(mix(audio, lengths, **options).audio, audio), "without noise it stays clean"


@pytest.mark.parametrize("form", ["break_points", "multinomial"])
@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_short_utterances_take_as_many_segments_as_they_hold(form: str, length: int) -> None:
    audio, lengths = batch(length, length)
    for seed in range(20):
        mixed = mix(
            audio,
            lengths,
            seed=seed,
            noise=hiss(lengths),
            prob=1.0,
            mix_rate=(0.0, 1.0),
            segments=(1, 5),
            speakers=(1, 4),
            segmentation=form,
        )
        assert torch.isfinite(mixed.audio).all()


@pytest.mark.parametrize("noise_ratio", [0.0, 1.0])
def test_silence_gives_neither_nan_nor_infinity(noise_ratio: float) -> None:
    audio, lengths = batch(1000, 1000)
    audio[1] = 0.0
    mixed = mix(
        audio,
        lengths,
        noise=lambda _: torch.zeros(500),
        prob=1.0,
        noise_ratio=noise_ratio,
    )
    assert torch.isfinite(mixed.audio).all()
    assert torch.equal(mixed.audio, audio)
    assert mixed.events == {"silent interference": 2 if noise_ratio else 1}


def test_noise_too_quiet_for_a_float_is_silence() -> None:
    audio, lengths = batch(1000)
    mixed = mix(audio, lengths, noise=lambda _: torch.full((500,), 1e-40), prob=1.0, noise_ratio=1)
    assert torch.equal(mixed.audio, audio)


def test_the_clean_audio_is_left_alone_and_so_is_pythons_generator() -> None:
    audio, lengths = batch(1000, 1000)
    before, state = audio.clone(), random.getstate()
    first = mix(audio, lengths, noise=hiss(lengths), prob=1.0, seed=4)
    assert torch.equal(audio, before)
    assert random.getstate() == state
    assert torch.equal(
        first.audio, mix(audio, lengths, noise=hiss(lengths), prob=1.0, seed=4).audio
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob": 1.5}, "prob is .* from 0 to 1"),
        ({"mix_rate": (0.6, 0.3)}, "mix_rate is .* in order"),
        ({"segments": (0, 2)}, "segments is .* from 1"),
        ({"speech_snr": (math.nan, 1.0)}, "speech_snr is"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiSpeakerNoise(**options)
