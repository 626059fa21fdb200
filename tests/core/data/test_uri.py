from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from components.datasets.nemo import NemoSource
from core.data.uri import make_source, open_source
from core.errors import ConfigError, DataError
from tests.core.data.corpus_files import write_corpus


def test_a_uri_names_a_source_and_its_options(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "m", [0.5])
    source = open_source(f"nemo:{manifest}", cache_dir=None)
    assert isinstance(source, NemoSource)
    assert (source.location, len(source)) == (str(manifest), 1)
    moved = open_source(f"nemo:{manifest}?root={tmp_path}", cache_dir=None)
    with pytest.raises(DataError, match=f"{tmp_path}/wavs/000.wav"):
        moved.cut(0)


def test_making_a_source_touches_nothing() -> None:
    assert make_source("nemo:/nowhere/at/all.jsonl").location == "/nowhere/at/all.jsonl"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data/train.jsonl", r"does not say what it is; .*'kaldi:'.*'nemo:data/train.jsonl'"),
        ("/data/a:b.jsonl", "does not say what it is"),
        ("nmo:train.jsonl", "unknown scheme 'nmo'; did you mean 'nemo'"),
        ("nemo:m.jsonl?rot=/x", "unknown option 'rot'; did you mean 'root'"),
        ("nemo:m.jsonl?root", "expected option=value, found 'root'"),
        ("nemo:", "expected a location after 'nemo:'"),
        ("nemo:m.jsonl?location=x", "unknown option 'location'"),
    ],
)
def test_a_uri_that_is_not_valid_says_what_is(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_source(uri)
    assert f"'{uri}'" in str(caught.value)


class Typed:
    def __init__(
        self,
        *,
        location: str,
        count: int = 0,
        share: float = 0.0,
        loud: bool = False,
        mode: Literal["fast", "slow"] = "fast",
        limit: int | None = 3,
    ) -> None:
        self.values = (count, share, loud, mode, limit)


def test_option_values_are_read_by_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.uri.lookup", lambda kind, name: Typed)
    made: Any = make_source("nemo:x?count=4&share=1&loud=true&mode=slow&limit=none")
    assert made.values == (4, 1.0, True, "slow", None)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("count=a", "'a' is not of type int"),
        ("count=1.5", "'1.5' is not of type int"),
        ("loud=1", "expected true or false"),
        ("mode=fst", "did you mean 'fast'"),
        ("limit=x", "'x' is not of type int"),
    ],
)
def test_a_value_of_another_type_is_refused(
    monkeypatch: pytest.MonkeyPatch, pair: str, message: str
) -> None:
    monkeypatch.setattr("core.uri.lookup", lambda kind, name: Typed)
    with pytest.raises(ConfigError, match=f"option {pair.partition('=')[0]}: .*{message}"):
        make_source(f"nemo:x?{pair}")
