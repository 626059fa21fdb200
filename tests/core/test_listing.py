from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigError, DataError
from core.listing import expand, read_list


def test_files_lists_and_sources_keep_their_order(tmp_path: Path) -> None:
    names = tmp_path / "list.txt"
    names.write_text("\ufeffa.wav\n\n  sub/b.flac  \n/c.wav\n", encoding="utf-8")
    found = list(expand(["x.wav", f"@{names}", "nemo:test.jsonl", "y.mp3", "demo:test"]))
    assert found == [
        [Path("x.wav"), tmp_path / "a.wav", tmp_path / "sub" / "b.flac", Path("/c.wav")],
        "nemo:test.jsonl",
        [Path("y.mp3")],
        "demo:test",
    ]


def test_what_exists_is_a_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("@odd.wav", "demo:odd.wav"):
        Path(name).touch()
        assert list(expand([name])) == [[Path(name)]]


def test_a_manifest_without_its_scheme_is_refused_with_the_schemes() -> None:
    with pytest.raises(ConfigError, match="'nemo:'"):
        list(expand(["test.jsonl"]))


def test_lists_that_name_nothing_or_are_no_text_are_refused(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n \n")
    binary.write_bytes(b"RIFF\xff\xfe")
    for path, reason in (
        (empty, "names no audio file"),
        (binary, "expected a text file in UTF-8"),
        (tmp_path / "gone.txt", "cannot be read: No such file"),
    ):
        with pytest.raises(DataError, match=reason):
            read_list(path)
