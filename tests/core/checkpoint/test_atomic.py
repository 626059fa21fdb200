from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from core.checkpoint.atomic import discard, naming, publish, scratch, seal, sweep, write_text
from tests.fixtures.file_size import files_of_at_most


def test_write_text_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_text(tmp_path / "LATEST", "one\n")
    write_text(tmp_path / "LATEST", "two\n")

    assert (tmp_path / "LATEST").read_text() == "two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["LATEST"]


def test_write_text_that_fails_keeps_the_old_content(tmp_path: Path) -> None:
    write_text(tmp_path / "LATEST", "one\n")

    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "LATEST", "half \ud800")

    assert (tmp_path / "LATEST").read_text() == "one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["LATEST"]


def test_write_text_that_does_not_fit_on_the_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "LATEST"

    with files_of_at_most(10), pytest.raises(OSError, match="File too large") as caught:
        write_text(path, "more than that\n")

    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_name_is_not_told_and_another_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        write_text(tmp_path / "file" / "LATEST", "one\n")
    assert caught.value.filename == str(tmp_path / "file" / "LATEST")

    with pytest.raises(FileNotFoundError) as missing, naming(tmp_path / "LATEST"):
        (tmp_path / "source").read_text()
    assert missing.value.filename == str(tmp_path / "source")


def test_seal_returns_the_digest_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    # FIPS 180-4, example B.1.
    assert seal(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_scratch_is_removed_when_its_block_raises(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch(tmp_path, "name") as work:
            (work / "file").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / "step_00000001").mkdir()
    child = os.fork()
    if child == 0:
        with scratch(tmp_path, "step_00000002") as work:
            (work / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 2

    found = sweep(tmp_path)

    assert len(found) == 1
    assert found[0].startswith(".tmp-step_00000002")
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert sweep(tmp_path) == []


def test_killed_between_the_two_renames_of_a_replacement_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "name"
    target.mkdir()
    (target / "content").write_text("old")
    work = tmp_path / ".tmp-name"
    work.mkdir()
    (work / "content").write_text("new")
    rename = os.rename
    child = os.fork()
    if child == 0:

        def die_after(source: Path, destination: Path) -> None:
            rename(source, destination)
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(os, "rename", die_after)
        publish(work, target)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not target.exists()

    sweep(tmp_path)

    assert (target / "content").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_discard_removes_the_directory(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "file").write_text("")

    discard(tmp_path / "name")

    assert list(tmp_path.iterdir()) == []
