from __future__ import annotations

from pathlib import Path

import pytest

from core.data.fingerprint import Fingerprint, FingerprintError
from core.errors import DataError


def test_the_digest_depends_on_content_and_not_on_order() -> None:
    one = Fingerprint(fields={"a": 1, "b": {"x": [1, 2], "y": None}})
    other = Fingerprint(fields={"b": {"y": None, "x": [1, 2]}, "a": 1})
    assert one.digest == other.digest
    assert one.digest != Fingerprint(fields={"a": 2, "b": {"x": [1, 2], "y": None}}).digest
    assert len(one.digest) == 64


def test_what_was_written_is_read(tmp_path: Path) -> None:
    made = Fingerprint(fields={"a": 1.5, "b": {"x": "한"}})
    (tmp_path / "f.json").write_bytes(made.to_json())
    assert Fingerprint.read(tmp_path / "f.json").digest == made.digest
    for content in (b"[1]", b"{", b""):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.json"):
            Fingerprint.read(tmp_path / "bad.json")


def test_a_refusal_names_every_field_that_differs() -> None:
    found = Fingerprint(fields={"same": 1, "dtype": "bf16", "old": 1, "in": {"n": 80, "m": 1}})
    wanted = Fingerprint(fields={"same": 1, "dtype": "float32", "new": 2, "in": {"n": 128, "m": 1}})
    found.require(found, place=Path("p"))
    with pytest.raises(FingerprintError) as caught:
        found.require(wanted, place=Path("p"))
    assert caught.value.differences == (
        "dtype: 'bf16' there, 'float32' expected",
        "in.n: 80 there, 128 expected",
        "new: nothing there, 2 expected",
        "old: 1 there, nothing expected",
    )
    assert "dtype: 'bf16' there" in str(caught.value)
