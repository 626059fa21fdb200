from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from lhotse.cut import Cut

from core.contracts import Batch, FixedRows, RunContext
from core.data.audio import AudioError
from core.data.collate import Key
from core.data.corpora import open_corpus
from core.data.corpus import Corpus, CorpusOptions
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.planned import PlannedCorpus
from core.data.speech import SpeechCollator
from core.data.streamed import StreamedCorpus
from core.errors import DataError
from tests.core.data.corpus_files import RATE, ListStream, write_corpus, write_lines


def options(*, training: bool = True) -> CorpusOptions:
    return CorpusOptions(
        plan=PlanOptions(batch_seconds=2.0),
        loading=LoaderOptions(),
        buffer=10,
        min_seconds=0.3,
        max_seconds=1.5,
        training=training,
    )


def opened(uri: str, tmp_path: Path, *, training: bool = True) -> Corpus:
    return open_corpus(
        name="split",
        uri=uri,
        options=options(training=training),
        context=RunContext(assets=tmp_path),
        cache_dir=tmp_path / "cache",
    )


def test_random_access_gives_planned_batches(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.2, 0.5, 1.0, 1.7, 2.5])
    corpus = opened(f"nemo:{manifest}", tmp_path)
    assert isinstance(corpus, PlannedCorpus)
    assert corpus.durations.tolist() == [0.5, 1.0]
    held_out = opened(f"nemo:{manifest}", tmp_path, training=False)
    assert isinstance(held_out, PlannedCorpus)
    assert len(held_out.durations) == 4, "evaluation has no longest utterance"
    assert not any("padding" in line for line in held_out.summary())


def test_each_utterance_is_left_out_for_one_reason(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [0.2, 0.5, 1.7, 2.5])
    lines = [line for line in opened(f"nemo:{manifest}", tmp_path).summary() if "left out" in line]
    assert [line.partition("0.00 h ")[2] for line in lines] == [
        "shorter than min_seconds=0.3",
        "longer than max_seconds=1.5",
    ]
    assert "2 utterances" in lines[1]


def chunked(tmp_path: Path, count: int) -> Corpus:
    manifest = write_corpus(tmp_path, [0.3 + 0.1 * (n % 5) for n in range(count)])
    return open_corpus(
        name="split",
        uri=f"nemo:{manifest}",
        options=replace(
            options(),
            plan=PlanOptions(batch_seconds=8.0, max_utterances=4),
            chunk_seconds=1.0,
            fixed_rows=True,
        ),
        context=RunContext(assets=tmp_path),
        cache_dir=tmp_path / "cache",
    )


def test_batches_of_fixed_rows_say_how_many(tmp_path: Path) -> None:
    corpus = chunked(tmp_path, 11)
    collator = SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None)
    stream = corpus.train_stream(collator)
    assert isinstance(stream, FixedRows)
    assert stream.rows_per_batch == 4
    assert sorted(len(batch) for batch in stream) == [3, 4, 4]
    (line,) = [line for line in corpus.summary() if "padding" in line]
    assert "3 batches of up to 4 utterances, 51.8% padding" in line, "5.3 s of 11 chunks"
    assert not isinstance(opened(corpus.uri, tmp_path).train_stream(collator), FixedRows)


class Names:
    """A collator that needs no audio."""

    needs_audio: Literal[False] = False

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key) -> Any:
        return [cut.utterance if isinstance(cut, AudioError) else cut.id for cut in cuts]


def test_a_collator_without_audio_gets_rows_whose_audio_is_gone(tmp_path: Path) -> None:
    corpus = chunked(tmp_path, 4)
    for path in tmp_path.glob("wavs/*"):
        path.unlink()
    assert [sorted(batch) for batch in corpus.train_stream(Names())] == [  # type: ignore[call-overload]
        [f"wavs/{number:03d}.wav" for number in range(4)]
    ]
    collator = SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None)
    (batch,) = corpus.train_stream(collator)
    assert [item.reason for item in batch.skipped] == ["missing file"] * 4


@pytest.mark.parametrize("training", [True, False])
def test_what_has_no_known_duration_is_left_out_and_said(tmp_path: Path, training: bool) -> None:
    write_corpus(tmp_path, [0.5, 0.6])
    rows = [{"audio_filepath": name} for name in ("wavs/000.wav", "gone.wav", "wavs/001.wav")]
    manifest = write_lines(tmp_path / "bare.jsonl", rows)
    corpus = opened(f"nemo:{manifest}", tmp_path, training=training)
    assert isinstance(corpus, PlannedCorpus)
    assert corpus.durations.tolist() == pytest.approx([0.5, 0.6])
    lines = corpus.summary()
    assert "split: left out 1 utterance, 0.00 h whose header cannot be read" in lines
    assert "split: 3 of 3 rows have no duration; read from the files' headers" in lines


class Keys:
    """A collator that keeps the keys it was given."""

    def __init__(self) -> None:
        self.keys: list[Key] = []

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key, /) -> Batch:
        self.keys.append(key)
        return SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None)(cuts)


def test_a_planned_batch_is_known_by_epoch_and_utterances(tmp_path: Path) -> None:
    corpus = opened(f"nemo:{write_corpus(tmp_path, [0.5, 0.6, 0.7, 1.2])}", tmp_path)
    keys = Keys()
    stream = corpus.train_stream(keys)
    for epoch in range(2):
        assert len(list(stream)) == len(keys.keys)
        assert {key[0] for key in keys.keys} == {epoch}
        assert sorted(number for key in keys.keys for number in key[1:]) == [0, 1, 2, 3]
        keys.keys.clear()
    for _ in range(2):
        list(corpus.eval_batches(keys))
    half = len(keys.keys) // 2
    assert keys.keys[:half] == keys.keys[half:], "every evaluation asks for the same"
    assert {key[0] for key in keys.keys} == {0}


def test_a_streamed_batch_is_known_by_part_and_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path, [0.5, 0.6, 0.7, 1.2])
    paths = sorted((tmp_path / "wavs").iterdir())
    monkeypatch.setattr("core.data.corpora.open_source", lambda *_, **__: ListStream(paths))
    corpus = opened("list:", tmp_path)
    whole, resumed = Keys(), Keys()
    batches = iter(corpus.train_stream(whole))
    for _ in range(8):
        next(batches)
    assert len(set(whole.keys)) == 8
    assert {key[0] for key in whole.keys} >= {0, 1}, "an epoch is a pass over the stream"
    before = corpus.train_stream(Keys())
    for _ in zip(range(5), before, strict=False):
        pass
    after = corpus.train_stream(resumed)
    after.load_state_dict(before.state_dict())
    batches = iter(after)
    for _ in range(3):
        next(batches)
    assert resumed.keys == whole.keys[5:]
    for _ in range(2):
        list(corpus.eval_batches(resumed))
    assert (
        resumed.keys[3:] == [(0, 0, 1, number) for number in range(len(resumed.keys[3:]) // 2)] * 2
    )


def test_a_stream_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path, [0.5, 1.0])
    source = ListStream(sorted((tmp_path / "wavs").iterdir()))
    monkeypatch.setattr("core.data.corpora.open_source", lambda uri, *, cache_dir: source)
    corpus = opened("list:", tmp_path)
    assert isinstance(corpus, StreamedCorpus)
    assert corpus.summary() == [
        "split: list:: a stream; uses utterances of 0.3 to 1.5 s, counted as it runs",
        "split: batches of up to 2 s from a buffer of 10 utterances; endless; resume is by "
        "replay, with the same number of ranks and workers",
    ]


def test_a_missing_manifest_is_found_when_the_corpus_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        opened("nemo:none.jsonl", tmp_path)
