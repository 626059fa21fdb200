from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.text.replacements import Replacements, read_replacements
from core.errors import DataError

NFD = unicodedata.normalize("NFD", "씨티")


def naive(table: dict[str, str], text: str) -> str:
    """Replace by trying every source at every place, the longest first."""
    found, place = "", 0
    while place < len(text):
        for source in sorted(table, key=len, reverse=True):
            if text.startswith(source, place):
                found, place = found + table[source], place + len(source)
                break
        else:
            found, place = found + text[place], place + 1
    return found


HANGUL = st.text("가나다", max_size=12)


@given(st.dictionaries(st.text("가나다", min_size=1, max_size=3), HANGUL, min_size=1), HANGUL)
def test_longest_first_in_one_pass(table: dict[str, str], text: str) -> None:
    assert Replacements(table)(text) == naive(table, text)


def test_what_was_put_in_is_not_looked_at_again() -> None:
    assert Replacements({"가": "나", "나": "가"})("가나다") == "나가다"
    assert Replacements({"당뇨": "당뇨병", "당뇨병": "당뇨병"})("당뇨 당뇨병") == "당뇨병 당뇨병"


def test_latin_words_and_numbers_are_not_cut() -> None:
    table = Replacements({"CT": "씨티", "mg": "밀리그램", "5": "오"})
    assert table("CT를 ACTH CTO CT") == "씨티를 ACTH CTO 씨티"
    assert table("10mg img 5mg") == "10밀리그램 img 오밀리그램"
    assert table("5 15 50 3.5 5.1 5. 5,000") == "오 15 50 3.5 5.1 오. 5,000"


def test_both_forms_give_the_same_table(tmp_path: Path) -> None:
    tsv, js = tmp_path / "t.tsv", tmp_path / "t.json"
    tsv.write_bytes(f"\ufeffCT\t{NFD}\r\n\r\n 엠 알  아이 \tMRI\n음\t\n".encode())
    js.write_text(f'{{"엠 알 아이": "MRI", "음": "", "CT": "{NFD}"}}', "utf-8")
    first, second = read_replacements(tsv), read_replacements(js)
    assert first.table == second.table == {"CT": "씨티", "엠 알 아이": "MRI", "음": ""}
    assert first.digest == second.digest
    assert first.digest != Replacements({"CT": "씨티"}).digest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"a\tb\nno tab\n", r"t\.tsv:2: expected 'source<TAB>target', found 1 column: "),
        ("t.tsv", b"a\tb\tc\n", r"t\.tsv:1: .* found 3 columns"),
        ("t.tsv", b"a\tb\n\n a \tc\n", r"t\.tsv:3: 'a' is there already, in line 1"),
        ("t.tsv", b"a\tb\n \tc\n", r"t\.tsv:2: the source is empty"),
        ("t.tsv", "a\tb\n가\t나\n".encode("cp949"), r"t\.tsv:2: not UTF-8"),
        ("t.tsv", b"\n", r"t\.tsv: no entry"),
        ("t.json", b'{"a": "b",\n"c" 1}', r"t\.json:2: not JSON"),
        ("t.json", b'["a"]', r"t\.json:1: expected one object"),
        ("t.json", b'{"a": "b",\n\n"c": 1}', r"t\.json:3: 'c' becomes 1; expected a string"),
        ("t.json", b'{"a": "b",\n"c": {"x": "y"}}', r"t\.json:2: 'c' becomes an object"),
        ("t.json", b'{"a": "b",\n"a": "c"}', r"t\.json:2: 'a' is there already, in line 1"),
        ("t.jsn", b"", r"found '\.jsn'; did you mean '\.json'"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_replacements(tmp_path / name)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tsv: No such file"):
        read_replacements(tmp_path / "none.tsv")
