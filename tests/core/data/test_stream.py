from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.datasets.nemo import NemoSource
from core.contracts import SpeechBatch
from core.data.loading import LoaderOptions
from core.data.plan import PlanOptions
from core.data.speech import SpeechCollator, SpeechLoader
from core.data.stream import PlannedStream
from core.errors import DataError, TrainingError
from tests.core.data.corpus_files import RATE, mixed_durations, write_corpus

UTTERANCES = 40


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), mixed_durations(UTTERANCES))


def stream(
    manifest: Path,
    *,
    workers: int = 0,
    seed: int = 3,
    rank: int = 0,
    world_size: int = 1,
    batch_seconds: float = 4.0,
) -> PlannedStream:
    source = NemoSource(location=str(manifest))
    source.open(None)
    collator = SpeechCollator(sample_rate=RATE, channel="refuse", tokenizer=None)
    return PlannedStream(
        durations=source.durations,
        load=SpeechLoader(source=source, rows=np.arange(len(source)), collator=collator),
        options=PlanOptions(batch_seconds=batch_seconds),
        name=f"nemo:{manifest}",
        fingerprint=source.fingerprint,
        filters={"min_seconds": 0.1},
        seed=seed,
        rank=rank,
        world_size=world_size,
        loading=LoaderOptions(workers=workers, timeout=60),
    )


def take(batches: PlannedStream, count: int) -> list[SpeechBatch]:
    """Take ``count`` batches, over as many epochs as that needs."""
    taken: list[SpeechBatch] = []
    while len(taken) < count:
        for batch in batches:
            taken.append(batch)
            if len(taken) == count:
                break
    return taken


def same(left: list[SpeechBatch], right: list[SpeechBatch]) -> bool:
    return [b.ids for b in left] == [b.ids for b in right] and all(
        torch.equal(a.audio, b.audio) and torch.equal(a.audio_lengths, b.audio_lengths)
        for a, b in zip(left, right, strict=True)
    )


def saved(batches: PlannedStream) -> dict[str, Any]:
    """Return the state as it comes back from a checkpoint."""
    state: dict[str, Any] = json.loads(json.dumps(batches.state_dict()))
    return state


@pytest.fixture(scope="module")
def whole(manifest: Path) -> list[SpeechBatch]:
    """Two epochs without interruption or workers."""
    batches = stream(manifest)
    first = batches.steps_per_epoch
    assert first is not None
    assert first >= 8
    return [batch for _ in range(2) for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", ["0", "1", "3", "7", "last"])
def test_what_remains_after_a_resume_is_what_remained(
    manifest: Path, whole: list[SpeechBatch], workers: int, stop: str
) -> None:
    before = stream(manifest, workers=workers)
    first = before.steps_per_epoch
    count = first if stop == "last" else int(stop)
    assert same(take(before, count), whole[:count])
    after = stream(manifest, workers=workers)
    after.load_state_dict(saved(before))
    assert after.epoch == (1 if stop == "last" else 0)
    assert same(take(after, len(whole) - count), whole[count:])


def test_the_number_of_workers_may_change_at_a_resume(
    manifest: Path, whole: list[SpeechBatch]
) -> None:
    before = stream(manifest, workers=2)
    take(before, 5)
    after = stream(manifest, workers=0)
    after.load_state_dict(saved(before))
    assert same(take(after, 4), whole[5:9])


def test_an_epoch_is_every_utterance_once_and_the_next_has_another_order(
    whole: list[SpeechBatch], manifest: Path
) -> None:
    first = stream(manifest).steps_per_epoch
    for epoch in (whole[:first], whole[first:]):
        assert len({name for batch in epoch for name in batch.ids}) == UTTERANCES
        assert sum(len(batch) for batch in epoch) == UTTERANCES
    assert [b.ids for b in whole[:first]] != [b.ids for b in whole[first:]]


@pytest.mark.parametrize("workers", [0, 2])
def test_iteration_goes_on_where_it_was_left(
    manifest: Path, whole: list[SpeechBatch], workers: int
) -> None:
    batches = stream(manifest, workers=workers)
    parts = [take(batches, count) for count in (2, 3, len(whole) - 5)]
    assert same([batch for part in parts for batch in part], whole)


def test_two_ranks_see_what_one_process_accumulates(
    manifest: Path, whole: list[SpeechBatch]
) -> None:
    first = stream(manifest).steps_per_epoch
    ranks = [list(stream(manifest, rank=r, world_size=2)) for r in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == -(-first // 2)
    full = first // 2
    woven = [batch for pair in zip(*ranks, strict=True) for batch in pair]
    assert same(woven[: 2 * full], whole[: 2 * full])
    assert sorted(n for b in woven for n in b.ids) == sorted(
        n for b in whole[:first] for n in b.ids
    )


def test_a_state_moves_between_numbers_of_ranks_where_it_divides(
    manifest: Path, whole: list[SpeechBatch]
) -> None:
    ranks = [stream(manifest, rank=r, world_size=2) for r in range(2)]
    for batches in ranks:
        take(batches, 2)
    states = [saved(batches) for batches in ranks]
    assert states[0] == states[1]
    alone = stream(manifest)
    alone.load_state_dict(states[0])
    assert same(take(alone, 3), whole[4:7])

    take(alone, 1)  # position 8 of the epoch
    four = stream(manifest, rank=1, world_size=4)
    four.load_state_dict(saved(alone))
    three = stream(manifest, rank=1, world_size=3)
    with pytest.raises(DataError, match=r"8 is not a multiple of 3; use 1 ranks"):
        three.load_state_dict(saved(alone))


def test_a_changed_manifest_is_refused_unless_allowed(manifest: Path, tmp_path: Path) -> None:
    before = stream(manifest)
    take(before, 3)
    other = write_corpus(tmp_path, mixed_durations(UTTERANCES - 1))
    after = stream(other)
    with pytest.raises(DataError) as caught:
        after.load_state_dict(saved(before))
    text = str(caught.value)
    old, new = (s.state_dict()["fingerprint"][:16] for s in (before, after))
    assert f"nemo:{other}: the manifest changed: {old} -> {new}" in text
    assert "--allow-data-change" in text
    after.load_state_dict(saved(before), allow_data_change=True)
    assert (after.epoch, after.state_dict()["batch"]) == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 4}, "seed: 3 -> 4"), ({"batch_seconds": 5.0}, r"batch_seconds: 4\.0 -> 5\.0")],
)
def test_a_changed_plan_is_refused(manifest: Path, change: dict[str, Any], message: str) -> None:
    state = saved(stream(manifest))
    with pytest.raises(DataError, match=message):
        stream(manifest, **change).load_state_dict(state)


def test_a_position_of_another_kind_of_stream_is_refused(manifest: Path) -> None:
    with pytest.raises(DataError, match="'replay' stream, and this one is 'planned'"):
        stream(manifest).load_state_dict({"kind": "replay"})


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_generators_are_left_alone(manifest: Path, workers: int) -> None:
    def states() -> Iterator[Any]:
        yield torch.get_rng_state().tolist()
        yield random.getstate()
        name, keys, *rest = np.random.get_state()
        yield name, keys.tolist(), rest

    before = list(states())
    list(stream(manifest, workers=workers))
    assert list(states()) == before


def test_a_killed_worker_is_an_error_at_once(manifest: Path) -> None:
    others = set(multiprocessing.active_children())
    batches = iter(stream(manifest, workers=1))
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - others

    def kill_and_go_on() -> None:
        os.kill(worker.pid or 0, signal.SIGKILL)
        list(batches)

    # Outside of next() torch's signal handler raises its own error, with the same words.
    with pytest.raises((TrainingError, RuntimeError), match=r"killed by signal|a data worker died"):
        kill_and_go_on()


def test_a_worker_that_hangs_is_an_error_after_the_timeout(manifest: Path) -> None:
    def hang(request: object) -> SpeechBatch:
        time.sleep(2)
        raise AssertionError

    batches = PlannedStream(
        durations=np.ones(4, dtype=np.float32),
        load=hang,
        options=PlanOptions(batch_seconds=1),
        name="hang",
        fingerprint="",
        filters={},
        seed=0,
        loading=LoaderOptions(workers=1, timeout=0.5),
    )
    with pytest.raises(TrainingError, match="a data worker hangs"):
        next(iter(batches))


def test_a_rank_without_utterances_of_its_own_gets_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    manifest = write_corpus(tmp_path, [1.0, 1.0, 1.0])
    batches = stream(manifest, rank=1, world_size=2, batch_seconds=1.0)
    assert len(list(batches)) == 1
    assert "leaves out 1 of 3 utterances" in caplog.text
