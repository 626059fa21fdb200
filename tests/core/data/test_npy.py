from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from core.data.npy import ArrayError, read_array, read_header, write_array


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


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArrayError, match="allow_pickle"):
        read_array(path, what="mel")
