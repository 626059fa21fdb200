from __future__ import annotations

import logging
import pickle
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from components.datasets.nemo import NemoSource
from core.data.noise import NoiseSampler, white_noise
from core.errors import DataError
from tests.core.data.corpus_files import RATE, tone, write_corpus, write_lines, write_wav

QUIET_DB = (-91.0, -46.0)


def opened(manifest: Path) -> NemoSource:
    source = NemoSource(location=str(manifest))
    source.open(None)
    return source


def sampler(manifest: Path) -> NoiseSampler:
    return NoiseSampler(source=opened(manifest), sample_rate=RATE)


def decibels(audio: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    return float(10 * np.log10(np.mean(audio.astype(np.float64) ** 2)))


def test_noise_is_never_longer_than_speech_and_keeps_its_own_length(tmp_path: Path) -> None:
    noise = sampler(write_corpus(tmp_path, [0.25, 2.0]))
    lengths = set()
    for seed in range(20):
        events: Counter[str] = Counter()
        drawn = noise.draw(RATE, rng=random.Random(seed), events=events)
        assert drawn.dtype == np.float32
        lengths.add(drawn.size)
        assert not events
    assert lengths == {RATE // 4, RATE}


def test_a_draw_depends_on_nothing_but_its_generator(tmp_path: Path) -> None:
    noise = sampler(write_corpus(tmp_path, [2.0] * 5))
    one, again, other = (
        noise.draw(RATE, rng=random.Random(seed), events=Counter()) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_every_clip_is_drawn(tmp_path: Path) -> None:
    noise = sampler(write_corpus(tmp_path, [0.1, 0.2, 0.3, 0.4]))
    rng, sizes = random.Random(0), Counter[int]()
    for _ in range(400):
        sizes[noise.draw(RATE, rng=rng, events=Counter()).size] += 1
    assert sorted(sizes) == [1600, 3200, 4800, 6400]
    assert min(sizes.values()) > 60


def test_a_stretch_of_a_long_clip_lies_within_the_entry(tmp_path: Path) -> None:
    ramp = np.arange(4 * RATE, dtype=np.float32) / (4 * RATE)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE, subtype="FLOAT")
    row = {"audio_filepath": "ramp.wav", "offset": 1.0, "duration": 2.0}
    noise = sampler(write_lines(tmp_path / "m.jsonl", [row]))
    starts = []
    for seed in range(200):
        drawn = noise.draw(RATE // 2, rng=random.Random(seed), events=Counter())
        assert drawn.size == RATE // 2
        starts.append(float(drawn[0]) * 4)
        assert float(drawn[-1]) * 4 <= 3.0
    assert 1.0 <= min(starts) < 1.05
    assert 2.45 < max(starts) <= 2.5


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    write_wav(tmp_path / "n.wav", 2.0, rate=44100)
    rows = [{"audio_filepath": "n.wav", "duration": 2.0}]
    noise = sampler(write_lines(tmp_path / "m.jsonl", rows))
    assert noise.draw(12345, rng=random.Random(0), events=Counter()).size == 12345


def test_a_missing_file_is_drawn_again(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.5] * 4)
    for name in ("000.wav", "001.wav"):
        (tmp_path / "wavs" / name).unlink()
    noise, events = sampler(manifest), Counter[str]()
    rng = random.Random(0)
    for _ in range(50):
        assert decibels(noise.draw(RATE, rng=rng, events=events)) > -20
    assert 20 < events["noise retries"] < 90
    assert events["noise retries missing file"] == events["noise retries"]
    assert len(events) == 2


def test_where_no_file_can_be_read_white_noise_stands_in(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.5] * 4)
    for path in (tmp_path / "wavs").iterdir():
        path.unlink()
    events: Counter[str] = Counter()
    drawn = sampler(manifest).draw(RATE, rng=random.Random(0), events=events)
    assert events == {
        "noise retries": 20,
        "noise retries missing file": 20,
        "noise fallbacks": 1,
    }
    assert drawn.size == RATE
    assert QUIET_DB[0] < decibels(drawn) < QUIET_DB[1]


def test_a_silent_clip_becomes_white_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "n.wav", np.zeros(RATE), RATE)
    rows = [{"audio_filepath": "n.wav", "duration": 1.0}]
    noise = sampler(write_lines(tmp_path / "m.jsonl", rows))
    for samples, size in ((2 * RATE, RATE), (RATE // 2, RATE // 2)):
        events: Counter[str] = Counter()
        drawn = noise.draw(samples, rng=random.Random(0), events=events)
        assert drawn.size == size
        assert QUIET_DB[0] < decibels(drawn) < QUIET_DB[1]
        assert events == {"silent noise": 1}
    assert [record.getMessage() for record in caplog.records] == [
        f"noise {tmp_path / 'm.jsonl'}: n.wav is silent; white noise is used in place of this noise"
    ]


def test_a_silent_stretch_is_drawn_again(tmp_path: Path) -> None:
    mostly = np.zeros(4 * RATE, dtype=np.float32)
    mostly[-RATE:] = tone(1.0)
    soundfile.write(tmp_path / "n.wav", mostly, RATE, subtype="FLOAT")
    rows = [{"audio_filepath": "n.wav", "duration": 4.0}]
    noise = sampler(write_lines(tmp_path / "m.jsonl", rows))
    events: Counter[str] = Counter()
    for seed in range(20):
        assert noise.draw(RATE // 2, rng=random.Random(seed), events=events).any()
    assert not events


def test_noise_whose_samples_add_up_to_less_than_zero_is_noise(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "n.wav", np.full(RATE, -0.1), RATE, subtype="FLOAT")
    rows = [{"audio_filepath": "n.wav", "duration": 1.0}]
    noise = sampler(write_lines(tmp_path / "m.jsonl", rows))
    drawn = noise.draw(RATE // 2, rng=random.Random(0), events=Counter())
    assert drawn == pytest.approx(np.full(RATE // 2, -0.1))


def test_clips_of_unknown_duration_are_never_drawn(tmp_path: Path) -> None:
    write_wav(tmp_path / "n.wav", 0.5)
    rows = [{"audio_filepath": "n.wav"}, {"audio_filepath": "gone.wav"}]
    noise = sampler(write_lines(tmp_path / "m.jsonl", rows))
    events: Counter[str] = Counter()
    for seed in range(20):
        assert noise.draw(RATE, rng=random.Random(seed), events=events).size == RATE // 2
    assert not events
    text = "\n".join(noise.summary())
    assert "1 clip, 0.00 h" in text
    assert "2 of 2 rows have no duration" in text
    assert f"without a readable header either: 1, the first of them {tmp_path / 'gone.wav'}" in text


@pytest.mark.parametrize("fields", [{}, {"duration": 0.0}])
def test_noise_without_a_duration_is_replaced_said_and_counted(
    tmp_path: Path, fields: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"audio_filepath": f"{name}.wav", **fields} for name in "ab"]
    manifest = write_lines(tmp_path / "m.jsonl", rows)
    noise, events = sampler(manifest), Counter[str]()
    said = (
        "none of 2 clips has a duration; white noise is used in place of this noise, at every draw"
    )
    assert [r.getMessage() for r in caplog.records] == [f"noise {manifest}: {said}"]
    assert noise.summary()[:2] == ["0 clips, 0.00 h", f"WARNING: {said}"]
    for seed in range(3):
        drawn = noise.draw(RATE, rng=random.Random(seed), events=events)
        assert drawn.size == RATE
        assert QUIET_DB[0] < decibels(drawn) < QUIET_DB[1]
    assert events == {"noise fallbacks": 3}
    assert len(caplog.records) == 1


def test_a_source_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        sampler(tmp_path / "m.jsonl")


def test_the_first_failure_of_each_reason_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stereo noise under channel=refuse must not become white noise behind the user's back."""
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros((RATE, 2)), RATE)
    rows = [{"audio_filepath": f"{name}.wav", "duration": 1.0} for name in ("a", "b", "gone")]
    manifest = write_lines(tmp_path / "m.jsonl", rows)
    noise, events = sampler(manifest), Counter[str]()
    for seed in range(5):
        noise.draw(RATE, rng=random.Random(seed), events=events)
    assert events["noise retries"] == 100
    by_reason = events["noise retries channels"], events["noise retries missing file"]
    assert min(by_reason) > 0
    assert sum(by_reason) == 100
    assert events["noise fallbacks"] == 5
    said = sorted(
        record.getMessage().removeprefix(f"noise {manifest}: ") for record in caplog.records
    )
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert said[0] == (
        "20 clips in a row could not be used; white noise is used in place of this noise"
    )
    assert said[1][1:] == (
        ".wav: channels: 2 channels, and channel='refuse'; set channel to 'mean' or to the number "
        "of one; another clip is drawn, counted as 'noise retries channels'"
    )
    assert said[2] == (
        f"gone.wav: missing file: {tmp_path / 'gone.wav'}; another clip is drawn, counted as "
        "'noise retries missing file'"
    )


def test_a_sampler_travels_by_pickle(tmp_path: Path) -> None:
    noise = sampler(write_corpus(tmp_path, [2.0] * 3))
    copy: NoiseSampler = pickle.loads(pickle.dumps(noise))
    drawn = [n.draw(RATE, rng=random.Random(0), events=Counter()) for n in (noise, copy)]
    assert np.array_equal(*drawn)


def test_white_noise_is_at_a_whole_number_of_decibels() -> None:
    levels = {round(decibels(white_noise(20000, random.Random(seed))), 0) for seed in range(300)}
    assert min(levels) == -90
    assert max(levels) == -47
    assert len(levels) == 44
