from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import DataError
from core.jsonlines import json_lines, text_file


def test_the_file_has_its_name_once_it_is_complete(tmp_path: Path) -> None:
    path, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    with json_lines(path) as write:
        write({"text": "가"})
        assert not path.exists()
        assert json.loads(part.read_text(encoding="utf-8")) == {"text": "가"}
    assert path.read_text(encoding="utf-8") == '{"text": "가"}\n'
    assert not part.exists()


def test_what_was_done_before_a_failure_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n")

    def give_up() -> None:
        with json_lines(path) as write:
            write({"id": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert path.read_text() == "of an earlier run\n"
    assert (tmp_path / "out.jsonl.part").read_text() == '{"id": 1}\n'


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"), json_lines(tmp_path / "no" / "out"):
        pass


def test_without_a_path_nothing_is_written() -> None:
    with json_lines(None) as write:
        write({})


def test_a_failure_before_the_first_line_leaves_nothing(tmp_path: Path) -> None:
    def give_up() -> None:
        with text_file(tmp_path / "out.json"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert not list(tmp_path.iterdir())


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "kept" / "there.jsonl")
    with json_lines(tmp_path / "out.jsonl") as write:
        write({"id": 1})
    assert (tmp_path / "out.jsonl").is_symlink()
    assert (tmp_path / "kept" / "there.jsonl").read_text() == '{"id": 1}\n'


def test_what_is_no_file_is_written_to_and_never_replaced() -> None:
    with json_lines(Path("/dev/null")) as write:
        write({"id": 1})
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.part").exists()
