from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.contracts import RunContext
from core.data.pairs_index import open_pairs
from core.data.speaker_mapping import (
    SPEAKERS,
    classes,
    coverage,
    read_mapping,
    refuse_no_hits,
    run_mapping,
)
from core.errors import DataError
from tests.fixtures.pair_files import write_pairs


def written(path: Path, mapping: Any) -> Path:
    path.write_text(json.dumps(mapping))
    return path


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "not empty"),
        ([], "expected {speaker: index}"),
        ({"a": "0"}, "'a' has '0'"),
        ({"a": 0, "b": 0}, "the indices 0 to 1, each once"),
        ({"a": 0, "b": 2}, "the indices 0 to 1, each once"),
    ],
)
def test_mappings_that_are_none_are_refused(tmp_path: Path, mapping: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_mapping(written(tmp_path / "m.json", mapping))


def test_a_missing_mapping_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"python -m core\.prepare speakers"):
        read_mapping(tmp_path / "m.json")


def test_coverage_counts_rows_and_speakers(tmp_path: Path) -> None:
    index = open_pairs(write_pairs(tmp_path, 10, speakers=4))
    found = classes(index, {"S1": 1, "S3": 0, "Z": 2})
    assert found.tolist() == [-1, 1, -1, 0]
    counted = coverage(index, found, 10)
    assert (counted.rows, counted.of_rows, counted.speakers, counted.of_speakers) == (5, 10, 2, 4)
    assert str(coverage(index, found, 3)).startswith("1 of 3 rows (33.33%), 1 of 3 speakers")


def test_no_hits_are_refused_with_counts_and_names_of_both_sides(tmp_path: Path) -> None:
    index = open_pairs(write_pairs(tmp_path, 10))
    with pytest.raises(DataError) as caught:
        refuse_no_hits(index, {"KO_a": 0, "KO_b": 1}, 10, "m.json")
    text = str(caught.value)
    assert "0 of 10 rows, 0 of 4 speakers; the mapping has 2" in text
    assert "'S0', 'S1', 'S2', ..." in text
    assert "'KO_a', 'KO_b'" in text
    assert "core.prepare speakers" in text


def test_hits_behind_the_usable_rows_do_not_count(tmp_path: Path) -> None:
    index = open_pairs(write_pairs(tmp_path, 10))
    refuse_no_hits(index, {"S3": 0}, 4, "m.json")
    with pytest.raises(DataError, match="0 of 3 rows"):
        refuse_no_hits(index, {"S3": 0}, 3, "m.json")


def test_a_run_keeps_its_mapping(tmp_path: Path) -> None:
    context = RunContext(assets=tmp_path / "assets")
    source = written(tmp_path / "m.json", {"a": 0, "b": 1})
    assert run_mapping(source, context) == ({"a": 0, "b": 1}, [])
    assert json.loads((context.assets / SPEAKERS).read_text()) == {"a": 0, "b": 1}
    written(source, {"a": 0, "b": 1, "c": 2})
    mapping, (note,) = run_mapping(source, context)
    assert mapping == {"a": 0, "b": 1}
    assert note.endswith("without a class: 1")
    written(source, {"b": 0, "a": 1})
    with pytest.raises(DataError, match="'a' has 1 and had 0, with 1 more"):
        run_mapping(source, context)
    used = RunContext(assets=context.assets, training=False)
    assert run_mapping(source, used) == ({"a": 0, "b": 1}, [])


def test_no_mapping_gives_no_classes(tmp_path: Path) -> None:
    assert run_mapping(None, RunContext(assets=tmp_path)) == ({}, [])
    assert not (tmp_path / SPEAKERS).exists()
