from __future__ import annotations

from pathlib import Path

import pytest

from core.data.tables import Encoding, read_segments, read_table
from core.errors import DataError

TEXT = "u1 안녕하세요\nu2\t네, 그래요\r\nu3\n"
EXPECTED = {"u1": "안녕하세요", "u2": "네, 그래요", "u3": ""}


@pytest.mark.parametrize(
    ("written", "encoding"), [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("cp949", "cp949")]
)
def test_tables_are_read_in_their_encoding(
    tmp_path: Path, written: str, encoding: Encoding
) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXT.encode(written))
    assert read_table(path, blank=True, encoding=encoding) == EXPECTED
    assert read_table(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("u1 a\nu2 가\n".encode("cp949"), "utf-8", r"text:2: not UTF-8: .*; is it cp949\?"),
        (b"u1 a\nu2 \xff\xff\n", "utf-8", r"text:2: not UTF-8: .* byte 0xff at column 4$"),
        (b"u1 a\nu2 \xff\xff\n", "cp949", r"text:2: not CP949: .* byte 0xff at column 4$"),
        ("u1 a\nu2 가\n".encode(), "cp949", r"text:2: the file is UTF-8, not CP949"),
        (b"\xef\xbb\xbfu1 a\n", "cp949", r"text:1: the file is UTF-8, not CP949"),
    ],
)
def test_another_encoding_is_named_with_file_and_line(
    tmp_path: Path, content: bytes, encoding: Encoding, message: str
) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(path, encoding=encoding)


def test_an_unknown_recording_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "segments"
    path.write_text("u1 meeting-O1 0 1\n", "utf-8")
    with pytest.raises(DataError, match=r"segments:1: .*; did you mean 'meeting-01'\?"):
        read_segments(path, {"meeting-01": Path("a.wav"), "other": Path("b.wav")})
