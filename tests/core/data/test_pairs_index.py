from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from core.data.pairs_index import PAIRS_SUFFIX, PROMPT_MEL, TARGET_MEL, open_pairs
from core.errors import DataError
from tests.fixtures.pair_files import edit_row, read_rows, write_pairs


def test_the_index_has_what_the_rows_say(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, 20, mels=7)
    edit_row(path, 3, prompt_mel_path="mel/P3.npy")
    index = open_pairs(path)
    rows = read_rows(path)
    assert [index.row(number) for number in range(20)] == rows
    assert index.text_lengths.tolist() == [row["target_text_len"] for row in rows]
    assert index.code_lengths.tolist() == [row["target_code_len"] for row in rows]
    names = index.names()
    assert [names[place] for place in index.speakers] == [row["speaker"] for row in rows]
    assert index.prefix(TARGET_MEL) == 7
    assert index.prefix(PROMPT_MEL) == 0
    assert index.mels.tolist() == [3 if n == 3 else int(n < 7) for n in range(20)]


def test_a_kept_index_is_mapped_and_needs_no_second_reading(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, 5)
    first = open_pairs(path)
    places = [tmp_path / (path.name + PAIRS_SUFFIX) / "offsets.npy"]
    before = [place.stat().st_mtime_ns for place in places]
    second = open_pairs(path)
    assert isinstance(second.offsets, np.memmap)
    assert [place.stat().st_mtime_ns for place in places] == before
    assert second.digest() == first.digest()
    assert second.names() == first.names()


def test_another_state_of_the_manifest_is_read_anew(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, 5)
    before = open_pairs(path)
    edit_row(path, 4, speaker="S9")
    after = open_pairs(path)
    assert after.names()[-1] == "S9"
    assert after.digest(4) == before.digest(4)
    assert after.digest(5) != before.digest(5)


def test_a_damaged_index_is_built_again(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, 5)
    open_pairs(path)
    (tmp_path / (path.name + PAIRS_SUFFIX) / "marks.npy").write_bytes(b"\x93NUM")
    assert len(open_pairs(path)) == 5


def test_a_row_that_changes_under_the_index_is_refused(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, 5)
    index = open_pairs(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"T0__P0")] = ord("U")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: the manifest changed"):
        index.row(0)


def test_an_index_travels_to_another_process(tmp_path: Path) -> None:
    index = open_pairs(write_pairs(tmp_path, 3))
    assert index.row(1) == pickle.loads(pickle.dumps(index)).row(1)


def test_the_cache_folder_takes_the_index_where_the_manifest_cannot_be_written(
    tmp_path: Path,
) -> None:
    # A name that leaves no room for a suffix, as root may write everywhere.
    path = write_pairs(tmp_path / "data", 3, name="x" * 250)
    cache = tmp_path / "cache"
    before = open_pairs(path, cache_dir=cache)
    (kept,) = cache.rglob("key.json")
    written = kept.stat().st_mtime_ns
    assert open_pairs(path, cache_dir=cache).digest() == before.digest()
    assert kept.stat().st_mtime_ns == written
    assert len(open_pairs(path)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker": None}, "no 'speaker'"),
        ({"target_id": 7}, "target_id is 7; expected a string"),
        ({"target_code_len": 0}, "target_code_len is 0; expected a number of tokens"),
        ({"target_text_len": "4"}, "target_text_len is '4'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write_pairs(tmp_path, 4)
    edit_row(path, 2, **changes)
    with pytest.raises(DataError) as caught:
        open_pairs(path)
    assert "1 bad line of 4" in str(caught.value)
    assert f"{path}:3: {message}" in str(caught.value)


def test_utterances_are_told_from_pairs(tmp_path: Path) -> None:
    path = tmp_path / "utterances.jsonl"
    path.write_text('{"id": "a", "speaker": "s", "audio_path": "a.wav"}\n')
    with pytest.raises(DataError, match=r"an utterance, not a pair; python -m core\.prepare"):
        open_pairs(path)


def test_missing_and_empty_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_pairs(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        open_pairs(tmp_path / "x.jsonl")
    assert not [name for name in os.listdir(tmp_path) if name.endswith(PAIRS_SUFFIX)]
