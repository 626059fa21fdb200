from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import soundfile

from components.datasets.hf import HuggingFaceSource
from core.data.audio import AudioError, load_audio
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.replay import ReplayStream, StreamOptions
from core.data.source import Source, StreamSource
from core.data.speech import SpeechCollator
from core.errors import DataError
from tests.core.data.corpus_files import RATE, tone, write_lines, write_wav

pytest.importorskip("datasets")

UTTERANCES = 9


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-cache")


def encoded(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(seconds), RATE, format="FLAC")
    return file.getvalue()


def parquet(folder: Path, *, column: str = "transcript", files: int = 3, **extra: Any) -> Path:
    """Write a dataset as the hub keeps it: parquet files with encoded audio in them."""
    import datasets

    (folder / "data").mkdir(parents=True)
    per_file = UTTERANCES // files
    for number in range(files):
        names = [f"u{number * per_file + i}" for i in range(per_file)]
        rows = {
            "id": names,
            "audio": [{"bytes": encoded(0.5), "path": f"{name}.flac"} for name in names],
            column: [f"text {name}" for name in names],
            "speaker_id": [7] * per_file,
            **extra,
        }
        table = datasets.Dataset.from_dict(rows)
        table = table.cast_column("audio", datasets.Audio(decode=False))
        table.to_parquet(folder / "data" / f"train-{number:05d}-of-{files:05d}.parquet")
    return folder


def opened(folder: Path, **options: Any) -> HuggingFaceSource:
    source = HuggingFaceSource(location=str(folder), **options)
    source.open(None)
    return source


def test_rows_become_cuts(tmp_path: Path) -> None:
    source = opened(parquet(tmp_path / "corpus"))
    assert isinstance(source, StreamSource)
    assert not isinstance(source, Source)
    cuts = list(source.cuts(epoch=0, shard=0, shards=1, seed=None))
    assert [cut.id for cut in cuts] == [f"u{n}" for n in range(UTTERANCES)]
    assert [c.supervisions[0].text for c in cuts] == [f"text u{n}" for n in range(UTTERANCES)]
    assert cuts[0].supervisions[0].speaker == "7"
    assert abs(load_audio(cuts[0], sample_rate=RATE) - tone(0.5)).max() < 1e-4
    assert list(source.texts()) == [f"text u{n}" for n in range(UTTERANCES)]


@pytest.mark.parametrize("column", ["text", "sentence", "normalized_text"])
def test_the_transcript_column_is_found(tmp_path: Path, column: str) -> None:
    source = opened(parquet(tmp_path / "corpus", column=column))
    assert next(source.texts()) == "text u0"


def test_the_transcript_column_is_named_by_option(tmp_path: Path) -> None:
    corpus = parquet(tmp_path / "corpus", raw_transcript=["raw"] * 3)
    assert next(opened(corpus, text="raw_transcript").texts()) == "raw"
    with pytest.raises(DataError, match="no column 'transcipt'; did you mean 'transcript'"):
        opened(corpus, text="transcipt")


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_parts_are_disjoint_and_complete(tmp_path: Path, shards: int) -> None:
    source = opened(parquet(tmp_path / "corpus"))
    for epoch in range(2):
        names = [
            cut.id
            for shard in range(shards)
            for cut in source.cuts(epoch=epoch, shard=shard, shards=shards, seed=3)
        ]
        assert sorted(names) == [f"u{n}" for n in range(UTTERANCES)]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_read_everything_once_and_resume(tmp_path: Path, workers: int) -> None:
    corpus = parquet(tmp_path / "corpus")

    def stream() -> ReplayStream:
        return ReplayStream(
            source=opened(corpus),
            collator=SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None),
            options=StreamOptions(
                plan=PlanOptions(batch_seconds=0.5), buffer=4, min_seconds=0.1, max_seconds=3.0
            ),
            name="hf",
            seed=1,
            loading=LoaderOptions(workers=workers, timeout=60),
        )

    # One utterance a batch; of two workers one reads six and the other three, twice.
    whole = [batch.ids for batch, _ in zip(stream(), range(12), strict=False)]
    assert {name for batch in whole for name in batch} == {f"u{n}" for n in range(UTTERANCES)}
    before = stream()
    for _ in zip(range(5), before, strict=False):
        pass
    after = stream()
    after.load_state_dict(before.state_dict())
    assert [batch.ids for batch, _ in zip(after, range(7), strict=False)] == whole[5:]


def test_a_row_without_readable_audio_is_an_error_of_its_own(tmp_path: Path) -> None:
    audio = [
        {"bytes": b"not audio", "path": "u0.flac"},
        {"bytes": encoded(0.5), "path": "u1.flac"},
        None,
    ]
    source = opened(parquet(tmp_path / "corpus", files=3, audio=audio))
    items = list(source.cuts(epoch=0, shard=0, shards=1, seed=None))[:3]
    assert isinstance(items[0], AudioError)
    assert (items[0].reason, items[0].utterance) == ("not audio", "u0")
    assert items[1].id == "u1"
    assert isinstance(items[2], AudioError)
    assert items[2].reason == "missing file"


def test_a_folder_of_audio_files_is_a_corpus_too(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    for number in range(3):
        write_wav(folder / "train" / f"{number}.wav", 0.5)
    write_lines(
        folder / "train" / "metadata.jsonl",
        [{"file_name": f"{n}.wav", "text": f"text {n}"} for n in range(3)],
    )
    source = opened(folder)
    cuts = {cut.id: cut for cut in source.cuts(epoch=0, shard=0, shards=1, seed=None)}
    assert sorted(cuts) == ["0.wav", "1.wav", "2.wav"]
    assert cuts["1.wav"].supervisions[0].text == "text 1"
    assert (load_audio(cuts["1.wav"], sample_rate=RATE) == tone(0.5)).all()


def test_what_is_not_a_speech_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        opened(tmp_path / "none")
    corpus = parquet(tmp_path / "corpus")
    with pytest.raises(DataError, match="split 'dev'"):
        opened(corpus, split="dev")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no audio column"):
        opened(tmp_path / "texts")


def test_split_and_revision_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    corpus = parquet(tmp_path / "corpus")
    assert opened(corpus).fingerprint == opened(corpus).fingerprint
    assert opened(corpus).fingerprint != opened(corpus, revision="abc").fingerprint
