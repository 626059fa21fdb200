from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from core.data.pair_sample import PER_SPEAKER, choose_utterances
from core.data.pairs_index import PairIndex, open_pairs
from tests.fixtures.pair_files import edit_row, write_pairs


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PairIndex:
    """60 rows of 30 targets, which stand 30 rows apart: S0 has ten of them."""
    path = write_pairs(tmp_path_factory.mktemp("data"), 60, speakers=2)
    for number in range(60):
        target = number % 30
        speaker = "S0" if target in (1, 2) else f"S{target % 4}"
        edit_row(path, number, target_id=f"T{target}", id=f"T{target}__P{number}", speaker=speaker)
    return open_pairs(path)


def choose(index: PairIndex, rows: Any = None, **settings: Any) -> tuple[Any, Counter[str]]:
    given = {"limit": 100, "seed": 0} | settings
    numbers = np.arange(len(index)) if rows is None else np.asarray(rows)
    found = choose_utterances(
        index, numbers, utterance=lambda row: index.row(row)["target_id"], **given
    )
    names = [index.row(int(row))["target_id"] for row in found.rows]
    assert len(set(names)) == len(names), "an utterance comes once"
    return found, Counter(index.row(int(row))["speaker"] for row in found.rows)


def test_every_utterance_comes_once_where_the_limit_allows(index: PairIndex) -> None:
    found, speakers = choose(index)
    assert found.rows.size == 30
    assert speakers == {"S0": 10, "S1": 7, "S2": 6, "S3": 7}
    assert (found.speakers, found.of_speakers) == (4, 4)


def test_speakers_take_turns_under_a_limit(index: PairIndex) -> None:
    # Four speakers times 20 utterances would be wanted, so a limit of 80 keeps all of them.
    _, speakers = choose(index, limit=4 * PER_SPEAKER)
    assert len(speakers) == 4
    few = choose_utterances(
        index, np.arange(60), utterance=lambda row: index.row(row)["target_id"], limit=9, seed=1
    )
    counts = Counter(index.row(int(row))["speaker"] for row in few.rows)
    assert sum(counts.values()) == 9
    assert sorted(counts.values()) == [4, 5], "two speakers at least, evenly"


def test_the_choice_follows_the_seed_and_the_rows(index: PairIndex) -> None:
    first, _ = choose(index, limit=12, seed=3)
    again, _ = choose(index, limit=12, seed=3)
    other, _ = choose(index, limit=12, seed=4)
    assert first.rows.tolist() == again.rows.tolist()
    assert first.rows.tolist() != other.rows.tolist()
    part, speakers = choose(index, rows=[3, 7, 11, 33, 37])
    assert sorted(part.rows.tolist())[0] in (3, 33)
    assert speakers == {"S3": 3}


def test_only_rows_that_come_up_are_read(index: PairIndex) -> None:
    read: list[int] = []

    def utterance(row: int) -> str:
        read.append(row)
        return str(index.row(row)["target_id"])

    choose_utterances(index, np.arange(60), utterance=utterance, limit=4, seed=0)
    assert len(set(read)) <= 8


def test_nothing_to_choose_from(index: PairIndex) -> None:
    found, _ = choose(index, rows=np.zeros(0, dtype=np.int64))
    assert found.rows.size == 0
    assert found.of_speakers == 0
