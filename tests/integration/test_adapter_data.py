"""Audio of every kind there is trouble with, through the commands: prepared, cached, trained on."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from components.speech_llm.tiny import write_tiny
from core.errors import DataError
from core.prepare import main as prepare
from core.run import main as run
from tests.integration.command import REPO, repeatable_metrics

ADAPTER = str(REPO / "experiments" / "asr_adapter.py")
TEXT = "네, 38.5℃입니다"
GOOD = ("plain.wav", "lossy.mp3", "lossy.ogg", "loud.wav", "8k.flac", "stereo.wav", "long.flac")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the audio and two base models, cache features and outputs of one, and work there."""
    place = tmp_path_factory.mktemp("adapter")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        write_audio(place)
        write_tiny(place / "base")
        write_tiny(place / "other", seed=1)
        store = ["--workers", "1", "--dtype", "float32", "--verify"]
        assert prepare(["cache", "m.jsonl", "features", *store]) == 0
        encoder = ["--encoder", "base", "--quantization", "none", "--device", "cpu"]
        assert prepare(["cache", "m.jsonl", "encoded", *store, *encoder]) == 0
        yield place


def write_audio(place: Path) -> None:
    rng = np.random.default_rng(0)

    def noise(seconds: float, *, rate: int = 16000, channels: int = 1) -> np.ndarray[Any, Any]:
        return 0.1 * rng.standard_normal((round(rate * seconds), channels))

    soundfile.write(place / "plain.wav", noise(3.5), 16000)
    soundfile.write(place / "lossy.mp3", noise(4), 16000)
    soundfile.write(place / "lossy.ogg", noise(4.5), 16000)
    soundfile.write(place / "loud.wav", 30 * noise(5), 16000, subtype="FLOAT")
    soundfile.write(place / "8k.flac", noise(5.5, rate=8000), 8000)
    soundfile.write(place / "stereo.wav", noise(6, channels=2), 16000)
    soundfile.write(place / "long.flac", noise(61), 16000)
    soundfile.write(place / "empty.wav", np.zeros(0), 16000)
    (place / "text.wav").write_text("not audio at all")
    names = [*GOOD, "empty.wav", "text.wav"]
    text = unicodedata.normalize("NFD", TEXT)
    rows = [{"audio_filepath": name, "id": name, "duration": 4.0, "text": text} for name in names]
    for row in rows:
        if row["id"] not in ("text.wav", "empty.wav"):
            row["duration"] = soundfile.info(place / str(row["id"])).duration
    (place / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def adapt(name: str, *tokens: str, base: str = "base") -> int:
    return run(
        [
            ADAPTER,
            f"base={base}",
            "train=nemo:m.jsonl",
            "validation=nemo:m.jsonl",
            "+no_aim",
            "task.model.max_new_tokens=4",
            "data.batch_size=2",
            "data.min_seconds=3",
            "data.workers=0",
            "trainer.max_steps=4",
            "trainer.log_every=1",
            "trainer.validate_every=4",
            "trainer.threads=1",
            "--run-dir",
            name,
            *tokens,
        ]
    )


def folders(kind: str) -> str:
    return f'data.features={{"train": "{kind}", "val": "{kind}"}}'


def test_audio_features_and_encoder_outputs_train_alike(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("features", "encoded"):
        lines = (place / kind / "failed.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["id"] for line in lines) == ["empty.wav", "text.wav"]
    assert adapt("from-audio") == 0
    assert adapt("from-features", folders("features")) == 0
    assert adapt("from-outputs", folders("encoded")) == 0
    heard = repeatable_metrics(place / "from-audio")
    assert any("train/ce" in values for _, values in heard)
    assert any("val/loss" in values for _, values in heard)
    assert repeatable_metrics(place / "from-features") == heard
    assert repeatable_metrics(place / "from-outputs") == heard
    told = capsys.readouterr()
    everything = told.out + told.err
    assert "left out 1 utterance, 0.02 h longer than max_seconds=25" in everything
    assert "text.wav" in everything
    assert "encoder outputs (float32) of 7 utterances from encoded" in everything


@pytest.mark.parametrize(
    ("base", "tokens", "message"),
    [
        ("other", (folders("encoded"),), "encoder.weights: "),
        (
            "base",
            ("task.model.quantization=nf4", folders("encoded")),
            "encoder.quantization: 'none' there, 'nf4' expected",
        ),
        ("base", ("task.model.dtype=bf16", folders("features")), "stored in float32, and bf16"),
        ("base", (folders("nowhere"),), "nowhere has no index.safetensors"),
    ],
)
def test_a_cache_that_is_not_for_this_model_is_refused(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    base: str,
    tokens: tuple[str, ...],
    message: str,
) -> None:
    assert adapt("refused", *tokens, base=base) == DataError.exit_code
    assert message in capsys.readouterr().err
