from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from components.features.whisper import WhisperFeatures, trim
from components.preparation.cache_work import (
    CacheJob,
    Extracted,
    audio_name,
    audio_stamp,
    extract,
    extracted,
)
from components.preparation.mel_work import Outcome
from core.data.audio import recording
from core.data.feature_index import StoredDtype


def write(path: Path, seed: int = 0, seconds: float = 0.5) -> Path:
    noise = np.random.default_rng(seed).standard_normal(round(16000 * seconds))
    soundfile.write(path, 0.1 * noise, 16000)
    return path


def job(path: Path, *, dtype: StoredDtype = "float32") -> CacheJob:
    cut = recording(path, utterance=path.stem).to_cut()
    return CacheJob(cut=cut, dtype=dtype, stamp=audio_stamp(cut))


def test_the_stamp_follows_the_audio_and_not_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    first = job(path)
    (tmp_path / "moved").mkdir()
    path = path.rename(tmp_path / "moved/a.wav")
    assert job(path).stamp == first.stamp
    assert first.stamp == int(first.stamp) < 2**48
    half = recording(path, utterance="a").to_cut().truncate(duration=0.25)
    assert audio_stamp(half) != first.stamp
    os.utime(path, ns=(0, 0))
    assert job(path).stamp != first.stamp
    path.unlink()
    assert audio_stamp(first.cut) != first.stamp
    assert audio_name(first.cut) == str(tmp_path / "a.wav")


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_features_are_those_of_the_audio(tmp_path: Path, dtype: StoredDtype) -> None:
    path = write(tmp_path / "a.wav")
    audio, _ = soundfile.read(path, dtype="float32")
    made = extract(job(path, dtype=dtype))
    assert isinstance(made, Extracted)
    wanted = trim(WhisperFeatures()(torch.from_numpy(audio)), samples=8000)
    assert torch.equal(made.tensor(), wanted.frames.to(made.tensor().dtype))
    assert made.tensor().dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
    assert (made.fill, made.samples, made.notes) == (wanted.fill, 8000, ())


def test_processes_give_the_order_of_the_jobs(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.wav", n, seconds=2 - 0.15 * n) for n in range(12)]
    jobs = [job(path) for path in paths]
    paths[4].unlink()
    made = list(extracted(iter(jobs), workers=2))
    assert [each.id for each in made] == [str(number) for number in range(12)]
    failed = made.pop(4)
    assert isinstance(failed, Outcome)
    assert failed.fault == ("missing file", str(paths[4]))
    assert all(isinstance(each, Extracted) for each in made)
