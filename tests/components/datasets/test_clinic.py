from __future__ import annotations

import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from components.datasets.clinic import ClinicSource
from components.datasets.clinic_corpus import PHRASES, ClinicParameters, plan
from core.data.source import Source
from core.data.uri import make_source
from core.errors import ConfigError, DataError


def opened(cache: Path, **settings: object) -> ClinicSource:
    source = ClinicSource(**{"location": "test", "utterances": 4, **settings})  # type: ignore[arg-type]
    source.open(cache)
    return source


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clinic")


def test_children_say_the_same_in_the_same_time_but_higher(cache: Path) -> None:
    adults, children = (opened(cache, speakers=group) for group in ("adults", "children"))
    assert isinstance(children, Source)
    assert list(adults.texts()) == list(children.texts()) == list(PHRASES[:4])
    assert adults.fingerprint != children.fingerprint
    ratio = children.durations / adults.durations
    assert np.all((ratio > 0.75) & (ratio < 1.25))
    heights = [np.mean([centre(source, row) for row in range(4)]) for source in (adults, children)]
    assert heights[1] > 1.15 * heights[0]


def centre(source: ClinicSource, row: int) -> float:
    """Return the mean frequency of a recording below 4 kHz, weighed by energy, in Hz."""
    samples = source.cut(row).load_audio()[0]
    energy = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / 16000)
    low = frequencies < 4000
    return float((energy * frequencies)[low].sum() / energy[low].sum())


def test_a_cut_has_its_text_speaker_and_audio(cache: Path) -> None:
    source = opened(cache)
    cut = source.cut(1)
    assert cut.id == "clinic-children-test-000001"
    assert cut.supervisions[0].text == PHRASES[1]
    assert cut.supervisions[0].language == "ko"
    assert cut.supervisions[0].speaker.startswith("children/ko+")
    with wave.open(cut.recording.sources[0].source) as stream:
        assert stream.getnframes() == cut.num_samples
        assert (stream.getframerate(), stream.getnchannels()) == (16000, 1)


def test_the_same_request_gives_the_same_bytes(cache: Path, tmp_path: Path) -> None:
    assert opened(cache).fingerprint == opened(tmp_path).fingerprint
    assert opened(tmp_path, seed=1).fingerprint != opened(cache).fingerprint


def test_phrases_come_as_often_and_voices_of_splits_are_disjoint() -> None:
    voices = {}
    for split in ("train", "validation", "test"):
        jobs = plan(ClinicParameters(split=split, group="children", utterances=192, seed=0))
        assert set(Counter(job.text for job in jobs).values()) == {6}
        voices[split] = {job.voice for job in jobs}
        for phrase in PHRASES:
            assert len({job.voice for job in jobs if job.text == phrase}) == 6
    assert not voices["train"] & (voices["validation"] | voices["test"])
    assert not voices["validation"] & voices["test"]


def test_it_is_named_by_a_uri_and_refused_by_it() -> None:
    assert isinstance(make_source("clinic:test?speakers=adults&utterances=3"), ClinicSource)
    with pytest.raises(ConfigError, match="clinic:tset: there is no such split; did you mean 'tes"):
        make_source("clinic:tset")
    with pytest.raises(ConfigError, match="valid choices: 'adults', 'children'"):
        make_source("clinic:test?speakers=elders")
    with pytest.raises(ConfigError, match="utterances is 0, expected 1 or more"):
        make_source("clinic:test?utterances=0")
    with pytest.raises(DataError, match=r"clinic:train is used before open\(\)"):
        len(ClinicSource())
