from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from core.data.npy import ArrayError, read_array, read_header, write_array
from tests.fixtures.file_size import files_of_at_most


def test_what_is_written_is_read_and_its_header_tells_the_size(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_array(path, values)
    assert np.array_equal(read_array(path, what="mel"), values)
    header = read_header(path)
    assert (header.shape, header.dtype) == ((3, 4), np.float32)
    assert header.size == path.stat().st_size == 128 + values.nbytes
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "missing file"), (b"", "empty file"), (b"RIFF" * 40, "not an array")],
)
def test_each_fault_has_its_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArrayError) as caught:
        read_array(path, what="mel")
    assert caught.value.reason == f"mel: {reason}"


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write_array(path, np.zeros((5, 80), dtype=np.float32))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArrayError, match="not an array"):
        read_array(path, what="mel")
    assert read_header(path).size == path.stat().st_size + 4


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_shape_that_the_file_does_not_hold_takes_no_memory(
    tmp_path: Path, version: tuple[int, int]
) -> None:
    path = tmp_path / "x.npy"
    header = {"descr": "<f4", "fortran_order": False, "shape": (99_999_999_999, 80)}
    write = {
        (1, 0): np.lib.format.write_array_header_1_0,
        (2, 0): np.lib.format.write_array_header_2_0,
    }[version]
    with path.open("wb") as file:
        write(file, header)
        file.write(bytes(800))
    with pytest.raises(ArrayError, match=r"99999999999, 80.*31999999999") as caught:
        read_array(path, what="mel")
    assert caught.value.reason == "mel: not an array"
    assert f"the file has {path.stat().st_size}" in caught.value.detail


def test_a_header_that_is_no_expression_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write_array(path, np.zeros((5, 80), dtype=np.float32))
    path.write_bytes(path.read_bytes().replace(b"}", b"("))
    with pytest.raises(ArrayError, match="not an array"):
        read_array(path, what="mel")
    with pytest.raises(ValueError, match="header"):
        read_header(path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArrayError, match="allow_pickle"):
        read_array(path, what="mel")


@pytest.mark.parametrize("length", [300, 300_000])
def test_an_array_that_does_not_fit_on_the_disk_is_an_error_and_leaves_no_file(
    tmp_path: Path, length: int
) -> None:
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large") as caught:
        write_array(tmp_path / "x.npy", np.zeros(length, dtype=np.float32))
    assert caught.value.filename == str(tmp_path / "x.npy")
    assert os.listdir(tmp_path) == []
