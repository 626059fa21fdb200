from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from components.preparation.speakers import Speakers
from core.data.speaker_mapping import read_mapping
from core.errors import DataError


def write(path: Path, counts: dict[str, int], *, ascii_: bool = False) -> Path:
    """Write rows of speakers by turns, as far as each of them goes."""
    rows = [
        {"id": f"{name}{turn}", "speaker": name}
        for turn in range(max(counts.values()))
        for name, count in counts.items()
        if turn < count
    ]
    lines = [json.dumps(row, ensure_ascii=ascii_) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def speakers(manifest: Path, output: Path, **options: Any) -> list[str]:
    said: list[str] = []
    Speakers(manifest=manifest, output=output, **options)(said.append)
    return said


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write(tmp_path / "m.jsonl", {"b": 5, "a": 5, "c": 12, "d": 2, '한"글': 7})


def test_the_most_frequent_come_first_and_equal_ones_by_name(
    manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s.json"
    said = speakers(manifest, output, min_samples=5)
    assert json.loads(output.read_text()) == {"c": 0, '한"글': 1, "a": 2, "b": 3}
    reverse = json.loads((tmp_path / "s_reverse.json").read_text())
    assert reverse == {"0": "c", "1": '한"글', "2": "a", "3": "b"}
    report = json.loads((tmp_path / "s.report.json").read_text())
    assert report["sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert (report["rows"], report["mapped_rows"], report["speakers"]) == (31, 29, 5)
    assert report["counts"] == {"c": 12, '한"글': 7, "a": 5, "b": 5}
    assert report["coverage"] == pytest.approx(29 / 31)
    assert said[1] == "  coverage: 29 of 31 rows (93.55%)"


def test_limits_and_their_absence(manifest: Path, tmp_path: Path) -> None:
    speakers(manifest, tmp_path / "top.json", top_k=2, min_samples=1)
    assert list(read_mapping(tmp_path / "top.json")) == ["c", '한"글']
    speakers(manifest, tmp_path / "all.json", top_k=2, all=True)
    assert list(read_mapping(tmp_path / "all.json")) == ["c", '한"글', "a", "b", "d"]
    with pytest.raises(DataError, match="the most frequent of 5 has 12"):
        speakers(manifest, tmp_path / "none.json", min_samples=13)


def test_escapes_in_json_change_nothing(manifest: Path, tmp_path: Path) -> None:
    counts = {"b": 5, "a": 5, "c": 12, "d": 2, '한"글': 7}
    other = write(tmp_path / "ascii.jsonl", counts, ascii_=True)
    for name, path in (("x", manifest), ("y", other)):
        speakers(path, tmp_path / f"{name}.json", all=True)
    assert read_mapping(tmp_path / "x.json") == read_mapping(tmp_path / "y.json")


def test_an_extended_mapping_keeps_every_index(manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.json"
    speakers(manifest, output, min_samples=5)
    before = read_mapping(output)
    with pytest.raises(DataError, match="--extend keeps its indices"):
        speakers(manifest, output)
    assert read_mapping(output) == before
    grown = write(tmp_path / "n.jsonl", {"b": 90, "e": 50, "f": 60, "a": 5})
    said = speakers(grown, output, min_samples=5, extend=True)
    after = read_mapping(output)
    assert after == {**before, "f": 4, "e": 5}
    assert "2 new" in said[0]
    assert "2 speakers of the former mapping have no row here" in said[2]
    speakers(grown, output, min_samples=5, extend=True)
    assert read_mapping(output) == after


def test_extending_stops_at_top_k(manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.json"
    speakers(manifest, output, top_k=2, min_samples=1)
    grown = write(tmp_path / "n.jsonl", {"x": 9, "y": 8, "z": 7})
    speakers(grown, output, top_k=3, min_samples=1, extend=True)
    assert read_mapping(output) == {"c": 0, '한"글': 1, "x": 2}


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"speaker": "a"}\n{"speaker": 7}\n')
    with pytest.raises(DataError, match=r"m\.jsonl:2: speaker is 7"):
        speakers(path, tmp_path / "s.json")
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        speakers(path, tmp_path / "s.json")


def test_the_manifest_is_not_written_over(manifest: Path, tmp_path: Path) -> None:
    source = manifest.rename(tmp_path / "s_reverse.json")
    before = source.read_bytes()
    with pytest.raises(DataError, match=r"s_reverse\.json is what is read"):
        speakers(source, tmp_path / "s.json", all=True)
    with pytest.raises(DataError, match="is what is read"):
        speakers(source, source, extend=True)
    assert source.read_bytes() == before
