from __future__ import annotations

from pathlib import Path

import pytest

from core.contracts import RunContext
from core.data.corpora import open_corpus
from core.data.corpus import Corpus, CorpusOptions
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.planned import PlannedCorpus
from core.data.streamed import StreamedCorpus
from core.errors import DataError
from tests.core.data.corpus_files import ListStream, write_corpus


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
