from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from components.features.encoder_cache import EncoderCache, encoder_fingerprint
from components.features.whisper import WhisperFeatures
from components.features.whisper_cache import WhisperCache
from components.preparation.cache import Cache
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from core.contracts import RunContext
from core.data.resample import resampled
from core.errors import ConfigError, DataError
from core.prepare import main

REPO = Path(__file__).resolve().parents[3]


def noise(seconds: float, *, rate: int = 16000, seed: int = 0) -> Any:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(rate * seconds))


def manifest(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write one clip of each kind that there is trouble with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "plain.wav", noise(1), 16000)
    soundfile.write(tmp_path / "8k.flac", noise(1, rate=8000), 8000)
    soundfile.write(tmp_path / "lossy.ogg", noise(1), 16000)
    soundfile.write(tmp_path / "lossy.mp3", noise(1), 16000)
    soundfile.write(tmp_path / "stereo.wav", 0.1 * rng.standard_normal((16000, 2)), 16000)
    soundfile.write(tmp_path / "loud.wav", 30 * noise(1), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "long.flac", noise(61), 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    (tmp_path / "text.wav").write_text("not audio at all")
    names = ["plain.wav", "8k.flac", "empty.wav", "lossy.ogg", "lossy.mp3", "stereo.wav"]
    names += ["loud.wav", "text.wav", "gone.wav", "long.flac", "plain.wav"]
    return manifest(tmp_path, [{"audio_filepath": name} for name in names])


GOOD = ("plain.wav", "8k.flac", "lossy.ogg", "lossy.mp3", "stereo.wav", "loud.wav", "long.flac")


def make(path: Path, **options: Any) -> list[str]:
    said: list[str] = []
    given = {"workers": 1, "shard_mb": 0.5, **options}
    Cache(manifest=str(path), output=path.parent / "out", **given)(said.append)
    return said


def failed(folder: Path) -> dict[str, str]:
    lines = (folder / "out/failed.jsonl").read_text().splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def decoded_once(path: Path) -> torch.Tensor:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = audio.mean(axis=1, dtype=np.float32)
    return torch.from_numpy(mono if rate == 16000 else resampled(mono, rate, 16000))


def test_every_kind_of_audio_is_cached_as_it_sounds_or_listed(corpus: Path) -> None:
    said = make(corpus, dtype="float32", verify=True)
    cache = WhisperCache(folder=corpus.parent / "out")
    assert cache.reader.ids == GOOD, "in the manifest's order"
    for name in GOOD:
        wanted = WhisperFeatures()(decoded_once(corpus.parent / name))
        assert torch.equal(cache(name), wanted), name
    assert cache("long.flac").shape == (3, 128, 3000)
    assert failed(corpus.parent) == {
        "empty.wav": "zero duration",
        "text.wav": "not audio",
        "gone.wav": "missing file",
        "plain.wav (row 11)": "duplicate id",
    }
    for line in (
        "  utterances looked at: 11",
        "  failed now: 4",
        "  resampled from 8,000 Hz: 1",
        "  2 channels averaged: 1",
        "  samples beyond 1, kept as they are: 1",
        "  failed, by reason: not audio: 1",
        "  checksums verified: 7",
    ):
        assert line in said


def test_an_hour_takes_less_than_100_mb_whatever_the_clips_last(corpus: Path) -> None:
    size = float(make(corpus)[-1].split()[-4])
    assert 92.16 < size < 96
    rows = [{"audio_filepath": f"{number}.wav"} for number in range(20)]
    (corpus.parent / "short").mkdir()
    for row in rows:
        soundfile.write(corpus.parent / "short" / row["audio_filepath"], noise(2), 16000)
    assert float(make(manifest(corpus.parent / "short", rows))[-1].split()[-4]) < 100


def test_a_second_run_makes_nothing_and_tries_failures_on_demand(corpus: Path) -> None:
    make(corpus)
    index = (corpus.parent / "out/index.safetensors").read_bytes()
    said = make(corpus)
    assert said[0].endswith("features of 7 utterances, 0 made now")
    assert "  there already: 7" in said
    assert "  failed before and not tried again (--retry-failed): 3" in said
    assert (corpus.parent / "out/index.safetensors").read_bytes() == index
    soundfile.write(corpus.parent / "gone.wav", noise(1), 16000)
    said = make(corpus, retry_failed=True)
    assert "gone.wav" in WhisperCache(folder=corpus.parent / "out").reader
    assert "gone.wav" not in failed(corpus.parent)


def test_an_id_that_no_array_can_have_fails_alone(corpus: Path) -> None:
    row = {"id": "__metadata__", "audio_filepath": "plain.wav"}
    path = manifest(corpus.parent, [row, {"audio_filepath": "8k.flac"}])
    assert "  failed, by reason: array name: 1" in make(path)
    assert failed(corpus.parent) == {"__metadata__": "array name"}
    assert WhisperCache(folder=corpus.parent / "out").reader.ids == ("8k.flac",)
    assert "  failed before and not tried again (--retry-failed): 1" in make(path)


def test_a_folder_that_cannot_be_written_is_one_line(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus.parent / "plain.wav" / "out"
    assert main(["cache", str(corpus), str(folder), "--workers", "1"]) == 4
    assert capsys.readouterr().err == f"DataError: {folder}: Not a directory\n"


def test_audio_that_changed_is_not_taken_for_what_is_cached(corpus: Path) -> None:
    make(corpus)
    soundfile.write(corpus.parent / "stereo.wav", noise(2), 16000)
    with pytest.raises(DataError, match=r"audio of 'stereo\.wav' .* is not what its features"):
        make(corpus)


def test_another_dtype_needs_another_folder(corpus: Path) -> None:
    make(corpus)
    with pytest.raises(DataError, match=r"store\.dtype: 'bf16' there, 'float32' expected"):
        make(corpus, dtype="float32")


def test_damage_is_found_on_demand(corpus: Path) -> None:
    make(corpus)
    path = corpus.parent / "out/shard-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"1 of 7 checksums are wrong"):
        make(corpus, verify=True)
    path.unlink()
    assert "  checksums verified: 7" in make(corpus, verify=True)


def test_what_cannot_be_a_corpus_is_refused(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="no such file"):
        make(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="workers=0"):
        make(corpus, workers=0)
    empty = manifest(tmp_path, [{"audio_filepath": "gone.wav"}])
    assert main(["cache", str(empty), str(tmp_path / "none"), "--workers", "1"]) == 4
    assert "there is not one" in capsys.readouterr().err


def test_every_kind_of_audio_is_encoded_as_it_sounds(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command; then as the model in training would encode the features."""
    base, folder = write_tiny(corpus.parent / "base"), corpus.parent / "out"
    arguments = ["cache", str(corpus), str(folder), "--workers", "1", "--shard-mb", "0.5"]
    arguments += ["--encoder", str(base), "--quantization", "none", "--dtype", "float32"]
    assert main([*arguments, "--device", "cpu", "--verify"]) == 0
    said = capsys.readouterr().out
    assert f"{folder}: encoder outputs of 7 utterances, 7 made now" in said
    assert "checksums verified: 7" in said
    model = SpeechLLM(base=str(base), lora=LoRA(), quantization="none", dtype="float32")
    (corpus.parent / "assets").mkdir()
    model.setup(RunContext(assets=corpus.parent / "assets"))
    made = encoder_fingerprint(base=str(base), quantization="none", dtype="float32")
    cache = EncoderCache(folder=folder, expected=made)
    for name in GOOD:
        features = WhisperFeatures()(decoded_once(corpus.parent / name))
        assert torch.equal(cache.batch([name]), model.encode(features)), name
    assert cache.batch(["long.flac"]).shape == (3, 375, 256)
    assert main([*arguments, "--device", "cpu"]) == 0, "a second run makes nothing"
    assert "0 made now" in capsys.readouterr().out
    assert main([*arguments[:-4], "--quantization", "nf4", "--dtype", "float32"]) == 4
    assert "encoder.quantization: 'none' there, 'nf4' expected" in capsys.readouterr().err
    assert main(arguments[:7]) == 4, "features do not go into a folder of encoder outputs"
    assert "encoder" in capsys.readouterr().err


def test_an_encoder_that_is_not_there_is_one_line(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus.parent / "none"
    assert main(["cache", str(corpus), str(folder), "--encoder", str(corpus.parent / "gone")]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "config.json" in line
    assert not folder.exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = []
    for number in range(300):
        soundfile.write(tmp_path / f"{number}.wav", noise(0.5, seed=number), 16000)
        rows.append({"audio_filepath": f"{number}.wav"})
    arguments = [sys.executable, "-m", "core.prepare", "cache", str(manifest(tmp_path, rows))]
    options = ["--workers", "2", "--shard-mb", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [*arguments, str(killed), *options], env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(killed.glob("shard-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)
    assert not (killed / "index.safetensors").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in killed.glob("shard-*")}
    assert 2 <= len(kept) < 35
    for folder in (killed, whole):
        again = Cache(manifest=arguments[-1], output=folder, workers=2, shard_mb=0.1)
        again(lambda _: None)
    for path in sorted(whole.glob("*.safetensors")):
        assert (killed / path.name).read_bytes() == path.read_bytes()
    assert {name: (killed / name).stat().st_mtime_ns for name in kept} == kept


def _alive(group: int) -> bool:
    """Say whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
