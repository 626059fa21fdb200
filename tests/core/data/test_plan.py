from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.plan import (
    Indices,
    PlanOptions,
    occupied_seconds,
    padding_share,
    plan_epoch,
    plan_evaluation,
    shard_epoch,
)
from core.data.source import Seconds

LIMIT = 12.0
OPTIONS = PlanOptions(batch_seconds=LIMIT, max_utterances=7)

durations_strategy = st.lists(
    st.floats(min_value=1 / 64, max_value=LIMIT, width=32), min_size=1, max_size=80
).map(lambda values: np.array(values, dtype=np.float32))


def padded(batch: Indices, durations: Seconds) -> float:
    return batch.size * float(durations[batch].max())


def spread(name: str, count: int) -> Seconds:
    rng = np.random.default_rng(7)
    drawn = {
        "read speech": np.clip(rng.normal(13, 3, count), 1.5, 20),
        "conversation": np.clip(rng.lognormal(1.2, 0.7, count), 0.3, 30),
        "even": rng.uniform(0.5, 20, count),
        "digits": rng.uniform(0.3, 3, count),
        "two kinds": np.where(rng.random(count) < 0.5, rng.normal(2, 0.3, count), 14.0),
    }
    return drawn[name].astype(np.float32)


@pytest.mark.parametrize("name", ["read speech", "conversation", "even", "digits", "two kinds"])
def test_padding_is_at_most_five_percent_on_mixed_lengths(name: str) -> None:
    durations = spread(name, 5000)
    for epoch in range(3):
        plan = plan_epoch(durations, PlanOptions(batch_seconds=120), seed=1, epoch=epoch)
        assert padding_share(plan, durations) <= 0.05


def test_padding_share_counts_real_and_padded_seconds() -> None:
    durations = np.array([1.0, 3.0, 2.0], dtype=np.float32)
    plan = [np.array([0, 1]), np.array([2])]
    assert padding_share(plan, durations) == pytest.approx(1 - 6 / 8)


@settings(max_examples=80, deadline=None)
@given(durations=durations_strategy, seed=st.integers(0, 1000), epoch=st.integers(0, 5))
def test_every_utterance_is_in_one_batch_within_the_limits(
    durations: Seconds, seed: int, epoch: int
) -> None:
    plan = plan_epoch(durations, OPTIONS, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(plan)) == list(range(len(durations)))
    for batch in plan:
        assert batch.size <= 7
        assert padded(batch, durations) <= LIMIT + 1e-4


@settings(max_examples=120, deadline=None)
@given(durations=durations_strategy, seed=st.integers(0, 1000), world=st.integers(1, 5))
def test_ranks_share_an_epoch_without_loss_or_repetition(
    durations: Seconds, seed: int, world: int
) -> None:
    plan = plan_epoch(durations, OPTIONS, seed=seed, epoch=0)
    shards = [shard_epoch(plan, durations, rank=r, world_size=world) for r in range(world)]
    batches = [batches for batches, _ in shards]
    lost = {count for _, count in shards}
    assert len({len(mine) for mine in batches}) == 1
    assert len(lost) == 1
    seen = [int(i) for mine in batches for batch in mine for i in batch]
    assert len(seen) == len(set(seen)) == len(durations) - lost.pop()
    for mine in batches:
        for batch in mine:
            assert 0 < batch.size <= 7
            assert padded(batch, durations) <= LIMIT + 1e-4


@settings(max_examples=60, deadline=None)
@given(durations=durations_strategy, seed=st.integers(0, 1000), world=st.integers(2, 4))
def test_a_step_of_all_ranks_is_what_one_process_sees_by_accumulation(
    durations: Seconds, seed: int, world: int
) -> None:
    plan = plan_epoch(durations, OPTIONS, seed=seed, epoch=0)
    shards = [shard_epoch(plan, durations, rank=r, world_size=world)[0] for r in range(world)]
    for step, group in enumerate(zip(*shards, strict=True)):
        alone = plan[step * world : (step + 1) * world]
        if len(alone) == world:
            assert all((a == b).all() for a, b in zip(group, alone, strict=True))
        else:
            assert sorted(np.concatenate(group)) == sorted(np.concatenate(alone))


def test_a_tail_with_fewer_utterances_than_ranks_is_reported_as_lost() -> None:
    durations = np.full(5, LIMIT, dtype=np.float32)
    plan = plan_epoch(durations, OPTIONS, seed=0, epoch=0)
    mine, lost = shard_epoch(plan, durations, rank=0, world_size=4)
    assert (len(plan), len(mine), lost) == (5, 1, 1)


def test_seed_and_epoch_change_the_order_and_nothing_else_does() -> None:
    durations = spread("even", 500)
    options = PlanOptions(batch_seconds=60)

    def flat(seed: int, epoch: int) -> list[int]:
        return np.concatenate(plan_epoch(durations, options, seed=seed, epoch=epoch)).tolist()

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1)
    assert flat(1, 0) != flat(2, 0)


def test_jitter_changes_who_meets_whom() -> None:
    durations = spread("even", 500)

    def groups(jitter: float, epoch: int) -> set[frozenset[int]]:
        options = PlanOptions(batch_seconds=60, jitter=jitter)
        return {frozenset(b.tolist()) for b in plan_epoch(durations, options, seed=0, epoch=epoch)}

    assert groups(0.0, 0) == groups(0.0, 1)
    assert len(groups(0.02, 0) & groups(0.02, 1)) < len(groups(0.02, 0)) / 2


def test_an_utterance_longer_than_a_batch_is_refused() -> None:
    durations = np.array([1.0, 12.5], dtype=np.float32)
    with pytest.raises(ValueError, match=r"12\.50 s does not fit batch_seconds=12"):
        plan_epoch(durations, OPTIONS, seed=0, epoch=0)


@settings(max_examples=50, deadline=None)
@given(durations=durations_strategy)
def test_evaluation_has_every_utterance_once_longest_first(durations: Seconds) -> None:
    plan = plan_evaluation(durations, PlanOptions(batch_seconds=5.0))
    assert sorted(np.concatenate(plan)) == list(range(len(durations)))
    longest = [float(durations[batch].max()) for batch in plan]
    assert longest == sorted(longest, reverse=True)
    for batch in plan:
        assert batch.size == 1 or padded(batch, durations) <= 5.0 + 1e-4


def test_no_utterances_make_no_batches() -> None:
    nothing = np.zeros(0, dtype=np.float32)
    assert plan_epoch(nothing, OPTIONS, seed=0, epoch=0) == []
    assert plan_evaluation(nothing, OPTIONS) == []
    assert shard_epoch([], nothing, rank=1, world_size=2) == ([], 0)
    assert padding_share([], nothing) == 0.0


def test_drop_last_leaves_full_batches_and_other_utterances_out_each_epoch() -> None:
    durations = spread("even", 50)
    options = PlanOptions(batch_seconds=1e6, max_utterances=8, drop_last=True)
    plans = [plan_epoch(durations, options, seed=0, epoch=epoch) for epoch in range(30)]
    for plan in plans:
        assert {batch.size for batch in plan} == {8}
        assert len(plan) == 6
    used = [set(np.concatenate(plan).tolist()) for plan in plans]
    assert all(len(seen) == 48 for seen in used)
    assert set.union(*used) == set(range(50))
    mine = [shard_epoch(plans[0], durations, rank=r, world_size=4, drop_last=True) for r in (0, 3)]
    assert [(len(batches), lost) for batches, lost in mine] == [(1, 16), (1, 16)]


def test_drop_last_changes_no_plan_that_does_not_use_it() -> None:
    durations = spread("even", 64)
    plain, full = (
        plan_epoch(
            durations,
            PlanOptions(batch_seconds=1e6, max_utterances=8, jitter=0.0, drop_last=drop_last),
            seed=0,
            epoch=0,
        )
        for drop_last in (False, True)
    )
    assert {tuple(batch) for batch in plain} == {tuple(batch) for batch in full}


def test_utterances_occupy_whole_chunks() -> None:
    seconds = np.array([0.0, 3.0, 29.99, 30.0, 30.01, 60.0, 61.0], dtype=np.float32)
    whole = occupied_seconds(seconds, least=0.0, chunk=30.0)
    assert whole.tolist() == [30, 30, 30, 30, 60, 60, 90]
    assert occupied_seconds(seconds, least=35.0, chunk=30.0).tolist() == [60] * 6 + [90]
    kept = occupied_seconds(seconds, least=5.0, chunk=0.0)
    assert kept.tolist() == [5, 5, *seconds[2:].tolist()]


def test_utterances_of_one_chunk_meet_whatever_their_lengths() -> None:
    seconds = np.linspace(3, 25, 64).astype(np.float32)
    whole = occupied_seconds(seconds, least=0.0, chunk=30.0)
    options = PlanOptions(batch_seconds=8 * 30.0, max_utterances=8)
    batches = plan_epoch(whole, options, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [8] * 8
    spreads = [float(np.ptp(seconds[batch])) for batch in batches]
    assert min(spreads) > 5, "sorted by length, each batch would span three seconds"
