from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import AudioSource, Recording
from lhotse.cut import Cut, MonoCut

from core.data.audio import AudioError, Channel, load_audio, probe, recording
from tests.core.data.corpus_files import RATE, tone, write_wav


def cut_of(path: Path, **fields: Any) -> Cut:
    cut = recording(path, utterance="u").to_cut()
    for name, value in fields.items():
        setattr(cut, name, value)
    return cut


def declared(path: Path, *, seconds: float, rate: int = RATE) -> Cut:
    """Describe a file as a manifest does that was written before the file was damaged."""
    whole = Recording(
        id="u",
        sources=[AudioSource(type="file", channels=[0], source=str(path))],
        sampling_rate=rate,
        num_samples=round(seconds * rate),
        duration=seconds,
    )
    return MonoCut(id="u", start=0.0, duration=seconds, channel=0, recording=whole)


def refusal(cut: Cut, *, channel: Channel = "refuse") -> AudioError:
    with pytest.raises(AudioError) as caught:
        load_audio(cut, sample_rate=RATE, channel=channel)
    assert caught.value.utterance == "u"
    return caught.value


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda path: path.unlink(), "missing file"),
    ("empty", lambda path: path.write_bytes(b""), "empty file"),
    ("random", lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "not audio"),
    ("truncated", halve, "truncated"),
    ("end lost", lambda path: soundfile.write(path, tone(0.7), RATE), "truncated"),
    ("rate", lambda path: soundfile.write(path, tone(1.0, rate=8000), 8000), "sample rate"),
    ("stereo", lambda path: soundfile.write(path, np.zeros((RATE, 2)), RATE), "channels"),
]


@pytest.mark.parametrize(
    ("damage", "reason"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES]
)
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_each_damage_is_refused_with_its_reason(
    tmp_path: Path, damage: Callable[[Path], object], reason: str, suffix: str
) -> None:
    path = tmp_path / f"u{suffix}"
    soundfile.write(path, tone(1.0), RATE)
    damage(path)
    error = refusal(declared(path, seconds=1.0))
    assert error.reason == reason
    assert reason in str(error)


def write_pcm(path: Path, samples: np.ndarray[Any, Any]) -> Path:
    path.write_bytes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def test_a_file_without_a_header_has_the_samples_of_a_wav(tmp_path: Path) -> None:
    samples = tone(1.0)
    soundfile.write(tmp_path / "u.wav", np.round(samples * 32767).astype("<i2"), RATE)
    raw = cut_of(write_pcm(tmp_path / "u.pcm", samples))
    assert raw.duration == 1.0
    expected = load_audio(cut_of(tmp_path / "u.wav"), sample_rate=RATE)
    np.testing.assert_array_equal(load_audio(raw, sample_rate=RATE), expected)
    raw.start, raw.duration = 0.25, 0.5
    np.testing.assert_array_equal(load_audio(raw, sample_rate=RATE), expected[4000:12000])


def test_half_a_sample_at_the_end_is_dropped(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "u.PCM", tone(1.0))
    with path.open("ab") as file:
        file.write(b"\x01")
    assert load_audio(cut_of(path), sample_rate=RATE).size == RATE


def test_a_manifest_may_declare_the_rate_that_no_header_tells(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "u.pcm", tone(1.0, rate=8000))
    assert load_audio(declared(path, seconds=1.0, rate=8000), sample_rate=RATE).size == RATE


def test_a_header_wins_over_the_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "u.wav", tone(1.0, rate=8000), 8000)
    renamed = (tmp_path / "u.wav").rename(tmp_path / "u.pcm")
    assert probe(renamed, utterance="u").sample_rate == 8000


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "missing file"), (b"", "empty file"), (b"\x01", "empty file")]
)
def test_a_headerless_file_with_nothing_in_it_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "u.pcm"
    if content is not None:
        path.write_bytes(content)
    assert refusal(declared(path, seconds=1.0)).reason == reason


def test_a_headerless_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "u.pcm", tone(1.0))
    halve(path)
    assert refusal(declared(path, seconds=1.0)).reason == "truncated"


def test_samples_that_are_not_finite_never_pass(tmp_path: Path) -> None:
    samples = tone(1.0)
    samples[[100, 200]] = np.nan, np.inf
    soundfile.write(tmp_path / "u.wav", samples, RATE, subtype="FLOAT")
    error = refusal(declared(tmp_path / "u.wav", seconds=1.0))
    assert (error.reason, error.detail) == ("non-finite samples", "2 of 16000 samples")


@pytest.mark.parametrize("peak", [1e18, -1e18, 1.01e5])
def test_samples_far_beyond_full_scale_never_pass(tmp_path: Path, peak: float) -> None:
    samples = tone(1.0)
    samples[100] = peak
    soundfile.write(tmp_path / "u.wav", samples, RATE, subtype="FLOAT")
    error = refusal(declared(tmp_path / "u.wav", seconds=1.0))
    assert error.reason == "samples out of range"
    assert error.detail == f"up to {abs(peak):.3g}; expected up to 1, and at most 100000"


def test_integers_written_as_floating_point_are_audio(tmp_path: Path) -> None:
    samples = np.round(tone(1.0) * 32767)
    soundfile.write(tmp_path / "u.wav", samples, RATE, subtype="FLOAT")
    audio = load_audio(declared(tmp_path / "u.wav", seconds=1.0), sample_rate=RATE)
    assert np.array_equal(audio, samples)


def test_silence_is_audio(tmp_path: Path) -> None:
    path = tmp_path / "u.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    assert not load_audio(declared(path, seconds=1.0), sample_rate=RATE).any()


def test_a_folder_or_no_duration_is_refused(tmp_path: Path) -> None:
    assert refusal(declared(tmp_path, seconds=1.0)).reason == "not audio"
    path = write_wav(tmp_path / "u.wav", 1.0)
    assert refusal(cut_of(path, duration=0.0)).reason == "zero duration"


def test_a_rounded_duration_is_tolerated(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "u.wav", 1.0)
    assert load_audio(declared(path, seconds=1.05), sample_rate=RATE).shape == (RATE,)


def test_offset_and_duration_select_samples(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "u.wav", 1.0)
    part = load_audio(cut_of(path, start=0.25, duration=0.5), sample_rate=RATE)
    assert np.array_equal(part, tone(1.0)[4000:12000])
    late = cut_of(path, start=5.0, duration=0.5)
    assert refusal(late).reason == "truncated"


@pytest.mark.parametrize("rate", [8000, 11111, 22050, 44100, 48000])
def test_resampling_keeps_length_and_pitch(tmp_path: Path, rate: int) -> None:
    path = write_wav(tmp_path / "u.wav", 1.0, rate=rate)
    audio = load_audio(cut_of(path), sample_rate=RATE)
    assert audio.dtype == np.float32
    assert audio.shape == (RATE,)
    middle = slice(1000, -1000)
    assert np.abs(audio[middle] - tone(1.0)[middle]).max() < 0.01


def test_resampling_does_not_depend_on_threads(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "u.wav", 3.0, rate=22050)
    before = torch.get_num_threads()
    loaded = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        loaded.append(load_audio(cut_of(path), sample_rate=RATE))
    torch.set_num_threads(before)
    assert np.array_equal(*loaded)


def test_channels_are_refused_averaged_or_chosen(tmp_path: Path) -> None:
    path = tmp_path / "u.wav"
    left, right = tone(1.0), tone(1.0, pitch=880)
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    cut = cut_of(path)
    assert "2 channels" in refusal(cut).detail
    assert refusal(cut, channel=2).reason == "channels"
    assert np.array_equal(load_audio(cut, sample_rate=RATE, channel=1), right)
    mean = load_audio(cut, sample_rate=RATE, channel="mean")
    assert np.allclose(mean, (left + right) / 2)


def test_a_cut_of_one_channel_of_several_is_taken_at_its_word(tmp_path: Path) -> None:
    path = tmp_path / "u.wav"
    both = np.stack([tone(1.0), tone(1.0, pitch=880)], axis=1)
    soundfile.write(path, both, RATE, subtype="FLOAT")
    whole = recording(path, utterance="u")
    cut = MonoCut(id="u", start=0, duration=1.0, channel=1, recording=whole)
    assert np.array_equal(load_audio(cut, sample_rate=RATE), both[:, 1])


def test_audio_in_memory_reads_like_a_file(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "u.wav", 1.0)
    cut = recording(path.read_bytes(), utterance="u").to_cut()
    assert np.array_equal(load_audio(cut, sample_rate=RATE), tone(1.0))
    with pytest.raises(AudioError) as caught:
        probe(b"", utterance="u")
    assert caught.value.reason == "empty file"
    with pytest.raises(AudioError) as caught:
        probe(b"not audio at all", utterance="u")
    assert caught.value.reason == "not audio"


def test_mixed_cuts_are_read_by_lhotse(tmp_path: Path) -> None:
    one = cut_of(write_wav(tmp_path / "a.wav", 1.0))
    other = cut_of(write_wav(tmp_path / "b.wav", 0.5, pitch=300))
    both = load_audio(one.append(other), sample_rate=RATE)
    assert np.allclose(both, np.concatenate([tone(1.0), tone(0.5, pitch=300)]), atol=1e-6)
    padded = one.pad(duration=1.5)
    assert load_audio(padded, sample_rate=RATE).shape == (24000,)


def test_a_mixed_cut_with_a_damaged_track_is_refused(tmp_path: Path) -> None:
    one, other = write_wav(tmp_path / "a.wav"), write_wav(tmp_path / "b.wav")
    mixed = cut_of(one).append(cut_of(other))
    mixed.id = "u"
    other.unlink()
    assert refusal(mixed).reason == "not audio"


@pytest.mark.parametrize("mixed", [False, True])
def test_commands_are_never_executed(tmp_path: Path, mixed: bool) -> None:
    trace = tmp_path / "trace"
    cut = cut_of(write_wav(tmp_path / "u.wav"))
    cut.recording.sources = [
        AudioSource(type="command", channels=[0], source=f"touch {trace}; cat {tmp_path}/u.wav")
    ]
    if mixed:
        cut = cut.pad(duration=2.0)
        cut.id = "u"
    assert "never executes" in refusal(cut).detail
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_compressed_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"u{suffix}"
    soundfile.write(path, tone(1.0), RATE)
    audio = load_audio(declared(path, seconds=1.0), sample_rate=RATE)
    assert abs(audio.size - RATE) <= 0.1 * RATE
    assert np.abs(audio).max() == pytest.approx(0.3, abs=0.05)
