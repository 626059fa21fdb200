from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.lines import line_groups, text_field

TEXTS = st.text(max_size=20) | st.sampled_from(
    ['"key"', '"key": "x"', 'a", "key": "b', "key", "\\"]
)


@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_a_found_field_is_what_json_has(before: str, value: str, ascii_: bool, tight: bool) -> None:
    separators = (",", ":") if tight else (", ", ": ")
    row = {"a": before, "key": value, "b": "c"}
    line = json.dumps(row, ensure_ascii=ascii_, separators=separators).encode(errors="replace")
    found = text_field(line, b'"key"')
    if found is None:
        assert "\\" in json.dumps(value, ensure_ascii=ascii_)
    else:
        assert found.decode() == json.loads(line)["key"]


@pytest.mark.parametrize("line", ['{"a": "key"}', '{"key": 3, "b": "x"}', '{"key": null}', "{}"])
def test_what_is_no_string_is_not_found(line: str) -> None:
    assert text_field(line.encode(), b'"key"') is None


def test_groups_give_every_line_once_and_leave_out_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x"
    lines = [b"%d\n" % number for number in range(1000)]
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    groups = list(line_groups(path, size=100))
    assert len(groups) > 10
    assert [line for group in groups for line in group] == lines
