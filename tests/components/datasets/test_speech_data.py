from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from components.datasets.nemo import NemoSource
from components.datasets.speech_data import SpeechData
from core.contracts import Batch, RunContext
from core.errors import ConfigError, DataError
from tests.core.data.corpus_files import (
    RATE,
    Characters,
    mixed_durations,
    tone,
    write_corpus,
    write_lines,
    write_wav,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), mixed_durations(40))


def speech(train: Path | str, tmp_path: Path, **changes: Any) -> SpeechData:
    uri = train if isinstance(train, str) else f"nemo:{train}"
    values: dict[str, Any] = {
        "train": uri,
        "validation": {"dev": uri},
        "test": {},
        "tokenizer": Characters(),
        "batch_seconds": 4.0,
        "cache_dir": str(tmp_path / "cache"),
    }
    return SpeechData(**(values | changes))


def ready(train: Path | str, tmp_path: Path, **changes: Any) -> SpeechData:
    data = speech(train, tmp_path, **changes)
    data.setup(context(tmp_path))
    return data


def context(tmp_path: Path, **changes: Any) -> RunContext:
    (tmp_path / "assets").mkdir(exist_ok=True)
    return RunContext(assets=tmp_path / "assets", **changes)


def names(batches: Iterable[Batch]) -> list[str]:
    return sorted(name for batch in batches for name in batch.ids)


def test_construction_touches_nothing(tmp_path: Path) -> None:
    speech("nemo:/nowhere.jsonl", tmp_path)
    assert not list(tmp_path.iterdir())


def test_training_and_evaluation_see_every_utterance(manifest: Path, tmp_path: Path) -> None:
    data = ready(manifest, tmp_path, test={"eval": f"nemo:{manifest}"})
    everything = sorted(f"wavs/{number:03d}.wav" for number in range(40))
    assert names(data.train_stream()) == everything
    assert (data.eval_splits, data.test_splits) == (("dev",), ("eval",))
    batches = list(data.eval_batches("eval"))
    assert names(batches) == everything
    assert names(data.eval_batches("eval")) == everything, "a split may be read again"
    lengths = [int(batch.audio_lengths.max()) for batch in batches]  # type: ignore[attr-defined]
    assert lengths == sorted(lengths, reverse=True)
    assert data.fingerprint().keys() == {"train", "dev", "eval"}


def test_ranks_share_an_evaluation_split(manifest: Path, tmp_path: Path) -> None:
    ready(manifest, tmp_path)  # keeps the tokenizer
    parts = []
    for rank in range(3):
        data = speech(manifest, tmp_path)
        data.setup(context(tmp_path, rank=rank, world_size=3, training=False))
        parts += names(data.eval_batches("dev"))
    assert sorted(parts) == [f"wavs/{number:03d}.wav" for number in range(40)]


def test_the_summary_says_what_the_filters_did(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.05, 1.0, 1.1, 3.0, 3.5])
    data = ready(manifest, tmp_path, batch_seconds=2.5, max_seconds=3.2)
    text = "\n".join(data.summary())
    assert f"train: nemo:{manifest}: 2 utterances, 0.00 h" in text
    assert "train: left out 1 utterance, 0.00 h shorter than min_seconds=0.1" in text
    assert "train: left out 1 utterance, 0.00 h longer than max_seconds=3.2" in text
    assert "train: left out 1 utterance, 0.00 h longer than batch_seconds=2.5" in text
    assert "1 batches of up to 2.5 s, 4.5% padding in the first epoch" in text
    assert "resume is exact and immediate" in text
    assert f"dev: nemo:{manifest}: 4 utterances" in text, "evaluation keeps long utterances"
    assert "tokenizer: 4 ids, blank included" in text
    assert len(names(data.eval_batches("dev"))) == 4


def test_filters_that_leave_nothing_are_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train .*no utterance is left; 40 utterances, .* shorter"):
        ready(manifest, tmp_path, min_seconds=20.0)


def test_the_tokenizer_is_fitted_once_and_loaded_for_use(manifest: Path, tmp_path: Path) -> None:
    data = ready(manifest, tmp_path)
    assert data.tokenizer is not None
    assert data.tokenizer.vocab_size == 4
    finished = speech("nemo:/moved/away.jsonl", tmp_path, validation={})
    finished.setup(context(tmp_path, training=False))
    assert finished.tokenizer is not None
    assert finished.tokenizer.encode("a b") == data.tokenizer.encode("a b")


def test_without_a_tokenizer_audio_is_enough(tmp_path: Path) -> None:
    write_wav(tmp_path / "u.wav")
    manifest = write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "u.wav", "duration": 1.0}])
    (batch,) = ready(manifest, tmp_path, tokenizer=None).train_stream()
    assert batch.ids == ("u.wav",)
    with pytest.raises(DataError, match=f"nemo:{manifest}: no utterance has a transcript"):
        ready(manifest, tmp_path)


def test_decomposed_korean_trains_as_composed(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [1.0] * 3, text=unicodedata.normalize("NFD", "소리"))
    data = ready(manifest, tmp_path)
    assert data.tokenizer is not None
    assert data.tokenizer.vocab_size == 3
    for batch in data.train_stream():
        assert set(batch.texts) == {"소리"}  # type: ignore[attr-defined]
        assert batch.skipped == ()


def test_nine_damaged_files_are_skipped_by_reason_and_the_rest_is_used(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [1.0] * 30)
    wavs = tmp_path / "wavs"
    (wavs / "000.wav").unlink()
    (wavs / "001.wav").write_bytes(b"")
    (wavs / "002.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    os.truncate(wavs / "003.wav", (wavs / "003.wav").stat().st_size // 2)
    soundfile.write(wavs / "004.wav", tone(0.7), RATE)
    soundfile.write(wavs / "005.wav", np.zeros((RATE, 2)), RATE)
    soundfile.write(wavs / "006.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(wavs / "007.wav", np.zeros(RATE), RATE)
    soundfile.write(wavs / "008.wav", tone(1.0, rate=8000), 8000)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[9]["text"] = "unknown"
    tokenizer = Characters()
    tokenizer.fit(["a b"])
    data = ready(write_lines(manifest, rows), tmp_path, tokenizer=tokenizer)

    batches = list(data.train_stream())
    skipped = {item.id: item.reason for batch in batches for item in batch.skipped}
    assert skipped == {
        "wavs/000.wav": "missing file",
        "wavs/001.wav": "empty file",
        "wavs/002.wav": "not audio",
        "wavs/003.wav": "truncated",
        "wavs/004.wav": "truncated",
        "wavs/005.wav": "channels",
        "wavs/006.wav": "non-finite samples",
        "wavs/009.wav": "text",
    }
    # Silence is audio, and 8 kHz is resampled where the manifest does not declare another rate.
    assert names(batches) == [f"wavs/{number:03d}.wav" for number in (7, 8, *range(10, 30))]
    for batch in batches:
        assert torch.isfinite(batch.audio).all()  # type: ignore[attr-defined]


def test_a_file_of_another_rate_than_declared_is_skipped(tmp_path: Path) -> None:
    source = NemoSource(location=str(write_corpus(tmp_path, [1.0] * 3)))
    source.open(None)
    CutSet.from_cuts(source.cut(i) for i in range(3)).to_file(tmp_path / "cuts.jsonl")
    soundfile.write(tmp_path / "wavs" / "001.wav", tone(1.0, rate=8000), 8000)
    data = ready(f"cuts:{tmp_path / 'cuts.jsonl'}", tmp_path)
    reasons = Counter(item.reason for batch in data.train_stream() for item in batch.skipped)
    assert reasons == {"sample rate": 1}


def test_stereo_is_mixed_down_by_configuration(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [1.0])
    both = np.stack([tone(1.0), np.zeros(RATE, dtype=np.float32)], axis=1)
    soundfile.write(tmp_path / "wavs" / "000.wav", both, RATE, subtype="FLOAT")
    for channel, expected in (("mean", tone(1.0) / 2), (0, tone(1.0)), (1, np.zeros(RATE))):
        (batch,) = ready(manifest, tmp_path, channel=channel).train_stream()
        assert np.allclose(batch.audio[0].numpy(), expected)  # type: ignore[attr-defined]


def test_a_shar_corpus_streams(tmp_path: Path) -> None:
    source = NemoSource(location=str(write_corpus(tmp_path, [0.5] * 8)))
    source.open(None)
    shar = tmp_path / "shar"
    shar.mkdir()
    CutSet.from_cuts(source.cut(i) for i in range(8)).map(_flat_id).to_shar(
        shar, fields={"recording": "wav"}, shard_size=4
    )
    data = ready(f"shar:{shar}", tmp_path)
    stream = data.train_stream()
    assert stream.steps_per_epoch is None
    batches = [batch for batch, _ in zip(stream, range(4), strict=False)]
    assert {item.reason for batch in batches for item in batch.skipped} == set()
    assert len(set(names(batches))) == 8
    assert len(names(data.eval_batches("dev"))) == 8
    assert any("resume is by replay" in line for line in data.summary())


def _flat_id(cut: Any) -> Any:
    return cut.with_id(Path(cut.id).stem)


@pytest.mark.parametrize("uri", ["nemo:/no/such.jsonl", "kaldi:/no/such", "shar:/no/such"])
def test_a_missing_source_is_found_before_training(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/no/such"):
        ready(uri, tmp_path)


def test_splits_have_names_of_their_own(manifest: Path, tmp_path: Path) -> None:
    uri = f"nemo:{manifest}"
    with pytest.raises(ConfigError, match="used twice: dev"):
        ready(manifest, tmp_path, test={"dev": uri})
    with pytest.raises(ConfigError, match="used twice: train"):
        ready(manifest, tmp_path, validation={"train": uri})
    with pytest.raises(ConfigError, match="no split 'dv'; did you mean 'dev'"):
        ready(manifest, tmp_path).eval_batches("dv")


def test_two_workers_give_the_batches_of_none(manifest: Path, tmp_path: Path) -> None:
    pairs = zip(
        ready(manifest, tmp_path).train_stream(),
        ready(manifest, tmp_path, workers=2).train_stream(),
        strict=True,
    )
    for one, other in pairs:
        assert one.ids == other.ids
        assert torch.equal(one.audio, other.audio)  # type: ignore[attr-defined]
        assert torch.equal(one.targets, other.targets)  # type: ignore[attr-defined]
