from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data.index import INDEX_SUFFIX, ManifestIndex, Row, checked_duration, open_index
from core.errors import DataError

GOOD = b'{"duration": 1.5, "id": "u0"}'


def check(row: Row) -> tuple[float, str | None]:
    return checked_duration(row), row.get("id")


def never(row: Row) -> tuple[float, str | None]:
    raise AssertionError("the kept index must be used")


def manifest(folder: Path, *lines: bytes) -> Path:
    path = folder / "m.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def opened(path: Path, **options: Any) -> ManifestIndex:
    return open_index(path, kind="test", check=check, **options)


def test_rows_are_found_by_number_without_reading_the_others(tmp_path: Path) -> None:
    lines = [b'{"duration": %d, "text": "%s"}' % (i, b"x" * i) for i in range(20)]
    index = opened(manifest(tmp_path, *lines))
    assert index.durations.tolist() == list(range(20))
    assert [index.row(i)["text"] for i in (19, 0, 7)] == ["x" * 19, "", "x" * 7]


def test_a_last_line_without_a_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(GOOD + b"\r\n" + b'{"duration": 2}')
    index = opened(path)
    assert [index.row(i)["duration"] for i in range(2)] == [1.5, 2]


def test_a_byte_order_mark_at_the_start_is_not_content(tmp_path: Path) -> None:
    index = opened(manifest(tmp_path, b"\xef\xbb\xbf" + GOOD, b'{"duration": 2}'))
    assert index.row(0)["id"] == "u0"
    assert index.row(1)["duration"] == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"duration": 1.5, "te', "truncated JSON"),
        (b"", "blank line"),
        (b"   ", "blank line"),
        (b"{}", "no 'duration'; expected seconds"),
        (b'{"duration": NaN}', "NaN and Infinity are not JSON"),
        (b'{"duration": -1}', "duration is -1"),
        (b'{"duration": "1.5"}', "duration is '1.5', a str"),
        (b'{"duration": true}', "duration is True, a bool"),
        (b'{"duration": null}', "duration is None"),
        (b'{"duration": 1, "text": "\xff"}', "not UTF-8: byte 0xff at column 26"),
        (b'\xef\xbb\xbf{"duration": 1}', "a byte order mark inside the file"),
        (b"[1, 2]", "a JSON list; expected an object"),
        (b"\x00\x01garbage}", "not JSON"),
        (GOOD, "id 'u0' is also on line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = manifest(tmp_path, GOOD, line, b'{"duration": 2}')
    with pytest.raises(DataError) as caught:
        opened(path)
    assert f"{path}:2: {reason}" in str(caught.value)
    assert "1 bad line of 3" in str(caught.value)
    assert list(tmp_path.iterdir()) == [path], "no index may be kept of a bad manifest"


def test_all_bad_lines_are_counted_and_ten_are_named(tmp_path: Path) -> None:
    path = manifest(tmp_path, *[b"{}"] * 25, GOOD)
    with pytest.raises(DataError) as caught:
        opened(path)
    text = str(caught.value)
    assert "25 bad lines of 26" in text
    assert text.count("no 'duration'") == 10
    assert "and 15 more" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "a folder"),
    ],
)
def test_a_missing_or_empty_manifest_is_one_clear_error(
    tmp_path: Path, make: Any, message: str
) -> None:
    path = tmp_path / "m.jsonl"
    make(path)
    with pytest.raises(DataError, match=message) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kept_index_is_used_until_the_content_changes(tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD)
    first = opened(path)
    assert (tmp_path / f"m.jsonl{INDEX_SUFFIX}").is_file()
    again = open_index(path, kind="test", check=never)
    assert (again.digest, again.durations.tolist()) == (first.digest, [1.5])

    os.utime(path, ns=(1, 1))  # touched, not changed
    open_index(path, kind="test", check=never)

    path.write_bytes(GOOD.replace(b"1.5", b"2.5") + b"\n")  # as many bytes
    os.utime(path, ns=(2, 2))
    changed = opened(path)
    assert changed.digest != first.digest
    assert changed.durations.tolist() == [2.5]


def test_an_index_of_another_kind_or_a_damaged_one_is_built_again(tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD)
    opened(path)
    with pytest.raises(AssertionError, match="kept index"):
        open_index(path, kind="other", check=never)
    kept = tmp_path / f"m.jsonl{INDEX_SUFFIX}"
    kept.write_bytes(kept.read_bytes()[:100])
    assert opened(path).durations.tolist() == [1.5]


def test_where_the_folder_is_read_only_the_cache_keeps_the_index(tmp_path: Path) -> None:
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    path = manifest(folder, GOOD)
    # Root may write anywhere, so a folder in the index's place stands for one that is read-only.
    (folder / f"m.jsonl{INDEX_SUFFIX}").mkdir()
    opened(path, cache_dir=cache)
    assert [p.name.endswith(INDEX_SUFFIX) for p in (cache / "index").iterdir()] == [True]
    assert open_index(path, kind="test", check=never, cache_dir=cache).row(0)["id"] == "u0"
    assert not [p for p in folder.iterdir() if p.name.startswith(".")], "no partial file is left"


def test_a_row_that_changed_under_the_index_is_an_error(tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD, GOOD.replace(b"u0", b"u1"))
    index = opened(path)
    path.write_bytes(b"x" * 70)
    with pytest.raises(DataError, match=r"m\.jsonl:2: the manifest changed"):
        index.row(1)


def test_an_index_travels_to_other_processes(tmp_path: Path) -> None:
    index = opened(manifest(tmp_path, GOOD))
    index.row(0)
    copy = pickle.loads(pickle.dumps(index))
    assert copy.row(0) == index.row(0)
    assert np.array_equal(copy.durations, index.durations)


def undeclared(row: Row) -> tuple[float, str | None]:
    return row.get("duration", math.nan), row.get("id")


def test_rows_without_a_duration_are_measured_once(tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD, b'{"id": "u1"}', b'{"id": "u2"}')
    found = {"u1": 2.5, "u2": math.nan}
    asked: list[str] = []

    def measure(row: Row) -> float:
        asked.append(row["id"])
        return found[row["id"]]

    def again() -> ManifestIndex:
        return open_index(path, kind="test", check=undeclared, measure=measure)

    first = again()
    assert first.durations[:2].tolist() == [1.5, 2.5]
    assert (first.undeclared.tolist(), first.unknown.tolist()) == ([1, 2], [2])
    assert sorted(asked) == ["u1", "u2"]
    asked.clear()
    kept = again()
    assert (kept.undeclared.tolist(), kept.unknown.tolist()) == ([1, 2], [2])
    assert kept.fingerprint == first.fingerprint != first.digest
    assert asked == ["u2"], "what was missing may have come"
    found["u2"] = 4.0
    assert again().unknown.size == 0
    asked.clear()
    late = again()
    assert late.durations.tolist() == [1.5, 2.5, 4.0]
    assert late.fingerprint != first.fingerprint, "these are other data to train on"
    assert asked == []


def test_declared_durations_leave_the_fingerprint_to_the_manifest(tmp_path: Path) -> None:
    index = opened(manifest(tmp_path, GOOD))
    assert index.fingerprint == index.digest
