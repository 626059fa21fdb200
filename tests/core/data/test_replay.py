from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contracts import SpeechBatch
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.replay import ReplayStream, StreamOptions, evaluation_batches
from core.data.source import StreamSource
from core.data.speech import SpeechCollator
from core.errors import DataError
from tests.core.data.corpus_files import RATE, ListStream, mixed_durations, write_corpus

COLLATOR = SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None)
UTTERANCES = 30


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, mixed_durations(UTTERANCES))
    return sorted((folder / "wavs").iterdir())


def options(**changes: Any) -> StreamOptions:
    values: dict[str, Any] = {
        "plan": PlanOptions(batch_seconds=4.0),
        "buffer": 8,
        "min_seconds": 0.1,
        "max_seconds": 4.0,
    }
    return StreamOptions(**(values | changes))


def stream(
    paths: list[Path],
    *,
    workers: int = 0,
    seed: int = 3,
    rank: int = 0,
    world_size: int = 1,
    **changes: Any,
) -> ReplayStream:
    return ReplayStream(
        source=ListStream(paths),
        collator=COLLATOR,
        options=options(**changes),
        name="list:",
        seed=seed,
        rank=rank,
        world_size=world_size,
        loading=LoaderOptions(workers=workers, prefetch=2, timeout=60),
    )


def take(batches: ReplayStream, count: int) -> list[SpeechBatch]:
    taken: list[SpeechBatch] = []
    iterator = iter(batches)
    while len(taken) < count:
        taken.append(next(iterator))
    return taken


def saved(batches: ReplayStream) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(json.dumps(batches.state_dict()))
    return state


def same(left: list[SpeechBatch], right: list[SpeechBatch]) -> bool:
    return [b.ids for b in left] == [b.ids for b in right] and all(
        torch.equal(a.audio, b.audio) for a, b in zip(left, right, strict=True)
    )


def test_the_source_of_these_tests_is_a_stream(paths: list[Path]) -> None:
    assert isinstance(ListStream(paths), StreamSource)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 3, 7, 12, 25])
def test_what_remains_after_a_resume_is_what_remained(
    paths: list[Path], workers: int, stop: int
) -> None:
    whole = take(stream(paths, workers=workers), 30)
    before = stream(paths, workers=workers)
    assert same(take(before, stop), whole[:stop])
    after = stream(paths, workers=workers)
    after.load_state_dict(saved(before))
    assert same(take(after, 30 - stop), whole[stop:])


def test_a_pass_has_every_utterance_once_in_batches_within_the_limit(paths: list[Path]) -> None:
    batches = iter(stream(paths))
    seen: list[str] = []
    while len(seen) < UTTERANCES:
        batch = next(batches)
        assert batch.padded_seconds <= 4.001
        seen += batch.ids
    assert len(seen) == len(set(seen)) == UTTERANCES


def test_the_first_pass_of_all_ranks_and_workers_is_every_utterance_once(
    paths: list[Path],
) -> None:
    seen: list[str] = []
    for rank in range(2):
        batches = take(stream(paths, rank=rank, world_size=2, workers=2), 12)
        for worker in range(2):
            names = [name for batch in batches[worker::2] for name in batch.ids]
            seen += names[: len(range(2 * rank + worker, UTTERANCES, 4))]
    assert sorted(seen) == [path.stem for path in paths]


def test_the_next_pass_has_another_order(paths: list[Path]) -> None:
    ids = [name for batch in take(stream(paths, buffer=100), 30) for name in batch.ids]
    assert sorted(ids[:UTTERANCES]) == sorted(set(ids))
    assert ids[:UTTERANCES] != ids[UTTERANCES : 2 * UTTERANCES]


def test_filters_leave_out_what_is_too_short_or_long(
    paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    batches = take(stream(paths, min_seconds=0.5, max_seconds=1.0), 12)
    lengths = torch.cat([batch.audio_lengths for batch in batches]) / RATE
    assert lengths.min() >= 0.5
    assert lengths.max() <= 1.0
    assert "utterances outside 0.5 to 1.0 s were left out" in caplog.text


def test_a_part_without_utterances_is_an_error_not_an_endless_wait(paths: list[Path]) -> None:
    with pytest.raises(DataError, match="part 5 of 5 has no utterance"):
        next(iter(stream(paths[:4], rank=4, world_size=5)))
    with pytest.raises(DataError, match="has no utterance"):
        next(iter(stream(paths, min_seconds=3.0)))


def test_unreadable_audio_is_named_with_the_next_batch(paths: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(paths[0].read_bytes()[:2000])
    batches = take(stream([*paths[:5], bad]), 4)
    assert {item.id for batch in batches for item in batch.skipped} <= {"bad"}
    assert {name for batch in batches for name in batch.ids} >= {path.stem for path in paths[:5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 2}, "1 ranks of 1 readers then, 1 ranks of 2 readers now"),
        ({"world_size": 2}, "1 ranks of 1 readers then, 2 ranks of 1 readers now"),
        ({"seed": 4}, "seed: 3 -> 4"),
        ({"buffer": 9}, "buffer: 8 -> 9"),
    ],
)
def test_a_position_that_means_other_batches_is_refused(
    paths: list[Path], change: dict[str, Any], message: str
) -> None:
    before = stream(paths)
    take(before, 2)
    after = stream(paths, **change)
    with pytest.raises(DataError, match=message):
        after.load_state_dict(saved(before))
    after.load_state_dict(saved(before), allow_data_change=True)
    assert after.state_dict()["batch"] == 0


def test_a_changed_corpus_is_refused(paths: list[Path]) -> None:
    with pytest.raises(DataError, match="list:: the manifest changed: 30 files -> 29 files"):
        stream(paths[1:]).load_state_dict(saved(stream(paths)))


def test_there_is_no_length(paths: list[Path]) -> None:
    assert stream(paths).steps_per_epoch is None


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_has_every_utterance_once(paths: list[Path], world_size: int) -> None:
    ids = [
        name
        for rank in range(world_size)
        for batch in evaluation_batches(
            source=ListStream(paths),
            collator=COLLATOR,
            options=options(max_seconds=None),
            rank=rank,
            world_size=world_size,
        )
        for name in batch.ids
    ]
    assert sorted(ids) == [path.stem for path in paths]
