from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from components.datasets.feature_batches import AudioFeatures, CachedFeatures, Transcripts
from components.datasets.nemo import NemoSource
from components.features.whisper import WhisperFeatures
from components.features.whisper_cache import WhisperCache
from components.preparation.cache import Cache
from components.text.normalizer import TextNormalizer
from core.contracts import FeatureBatch
from core.data.audio import AudioError
from core.data.feature_index import DTYPES, StoredDtype
from core.data.speech import SpeechCollator
from tests.core.data.corpus_files import write_lines

PLAIN = Transcripts(form=None, required=False)


def corpus(folder: Path, rows: list[dict[str, Any]]) -> NemoSource:
    source = NemoSource(location=str(write_lines(folder / "m.jsonl", rows)))
    source.open(None)
    return source


def cuts(source: NemoSource) -> list[Any]:
    found = []
    for row in range(len(source)):
        try:
            found.append(source.cut(row))
        except AudioError as error:
            found.append(error)
    return found


def noise(path: Path, seconds: float, *, rate: int = 16000, scale: float = 0.1) -> None:
    audio = scale * np.random.default_rng(0).standard_normal(round(rate * seconds))
    soundfile.write(path, audio, rate, subtype="FLOAT" if path.suffix == ".wav" else None)


def live(
    source: NemoSource, dtype: StoredDtype = "bf16", text: Transcripts = PLAIN
) -> FeatureBatch:
    collate = AudioFeatures(extractor=WhisperFeatures(), dtype=dtype, transcripts=text)
    return collate(cuts(source))


@pytest.fixture
def ugly(tmp_path: Path) -> NemoSource:
    """Return audio of every kind that there is trouble with, each with a text."""
    noise(tmp_path / "plain.wav", 1)
    noise(tmp_path / "8k.flac", 1, rate=8000)
    noise(tmp_path / "lossy.ogg", 1)
    noise(tmp_path / "lossy.mp3", 1)
    noise(tmp_path / "loud.wav", 1, scale=3)
    noise(tmp_path / "long.flac", 61)
    stereo = 0.1 * np.random.default_rng(1).standard_normal((16000, 2))
    soundfile.write(tmp_path / "stereo.wav", stereo, 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    (tmp_path / "text.wav").write_text("not audio at all")
    names = ["plain.wav", "8k.flac", "lossy.ogg", "lossy.mp3", "loud.wav", "long.flac"]
    names += ["stereo.wav", "empty.wav", "text.wav", "gone.wav"]
    return corpus(tmp_path, [{"audio_filepath": n, "text": n, "speaker": "김"} for n in names])


@pytest.mark.parametrize("dtype", ["bf16", "float32"])
def test_audio_and_cache_give_one_batch(
    ugly: NemoSource, tmp_path: Path, dtype: StoredDtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "features"
    Cache(manifest=ugly.location, output=folder, workers=1, dtype=dtype)(lambda _: None)
    heard = live(ugly, dtype)
    stored = CachedFeatures(store=WhisperCache(folder=folder), transcripts=PLAIN)
    read = stored([ugly.described(row) for row in range(7)])
    assert heard.features is not None
    assert read.features is not None
    assert heard.features.dtype == DTYPES[dtype]
    assert torch.equal(heard.features, read.features)
    assert heard.chunks == read.chunks == (1, 1, 1, 1, 1, 3, 1)
    assert heard.samples.tolist() == read.samples.tolist()
    assert heard.samples.tolist()[5] == 976_000
    for name in ("ids", "texts", "speakers", "sample_rate", "chunk_seconds"):
        assert getattr(heard, name) == getattr(read, name), name
    assert heard.padded_seconds == 270
    reasons = {item.id: item.reason for item in heard.skipped}
    assert reasons == {
        "empty.wav": "zero duration",
        "text.wav": "not audio",
        "gone.wav": "missing file",
    }


def test_what_the_cache_lacks_or_has_otherwise_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise(tmp_path / "a.wav", 1)
    noise(tmp_path / "b.wav", 2)
    rows = [{"audio_filepath": f"{name}.wav", "id": name} for name in "ab"]
    folder = tmp_path / "features"
    Cache(manifest=corpus(tmp_path, rows).location, output=folder, workers=1)(lambda _: None)
    declared = [
        {"audio_filepath": "a.wav", "id": "a", "duration": 1.0},
        {"audio_filepath": "b.wav", "id": "b", "duration": 1.5},
        {"audio_filepath": "c.wav", "id": "c", "duration": 1.0},
    ]
    source = corpus(tmp_path, declared)
    stored = CachedFeatures(store=WhisperCache(folder=folder), transcripts=PLAIN)
    batch = stored([source.described(row) for row in range(3)])
    assert batch.ids == ("a",)
    assert [(item.id, item.reason) for item in batch.skipped] == [
        ("b", "other audio in the cache"),
        ("c", "not in the cache"),
    ]
    assert batch.skipped[0].detail == "2.00 s are stored; the manifest says 1.50 s"
    nothing = stored([source.described(2)])
    assert len(nothing) == 0
    assert nothing.features is not None
    assert nothing.features.shape == (0, 128, 3000)


def test_decomposed_text_is_composed(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 1)
    text = unicodedata.normalize("NFD", "혈압은 120/80입니다.")
    batch = live(corpus(tmp_path, [{"audio_filepath": "a.wav", "text": text}]))
    assert batch.texts == ("혈압은 120/80입니다.",)


def test_training_leaves_out_what_has_no_certain_text(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 1)
    texts = ["(아) 네.", "[웃음]", None, "네 (안", "칠십/70"]
    rows = [
        {"audio_filepath": "a.wav", "id": str(number), "text": text}
        for number, text in enumerate(texts)
    ]
    source = corpus(tmp_path, rows)
    form = TextNormalizer()
    batch = live(source, text=Transcripts(form=form, required=True))
    faulty = [n for n, text in enumerate(texts) if text is not None and form.fault(text)]
    assert batch.ids == tuple(str(n) for n in (0, 3, 4) if n not in faulty)
    assert batch.texts[0] == "네"
    reasons = {item.id: item.reason for item in batch.skipped}
    assert reasons["1"] == "empty transcript"
    assert reasons["2"] == "no transcript"
    assert set(reasons) == {"1", "2", *map(str, faulty)}
    raw = live(source)
    assert raw.texts == ("(아) 네.", "[웃음]", "", "네 (안", "칠십/70")
    assert not raw.skipped


def test_what_came_without_a_transcript_is_named(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 1)
    rows = [{"audio_filepath": "a.wav", "id": name} for name in ("told", "empty", "untold")]
    source = corpus(tmp_path, [rows[0] | {"text": "가"}, rows[1] | {"text": ""}, rows[2]])
    speech = SpeechCollator(sample_rate=16000, channel="mean", tokenizer=None)
    for batch in (live(source), speech(cuts(source))):
        assert batch.texts == ("가", "", "")
        assert batch.untold == {"untold"}
