from __future__ import annotations

from pathlib import Path

from components.trackers.nested import nested
from core.config.values import Symbol


def test_paths_become_dictionaries() -> None:
    flat = {
        "name": "ctc",
        "task": Symbol("@task/ctc"),
        "task.encoder": Symbol("@encoder/conformer"),
        "task.encoder.dim": 512,
        "callbacks[0].every": None,
        'table["x.y"].z': (1, 2.5),
    }

    assert nested(flat) == {
        "name": "ctc",
        "task": {"@": "@task/ctc", "encoder": {"@": "@encoder/conformer", "dim": 512}},
        "callbacks": {"0": {"every": None}},
        "table": {"x.y": {"z": [1, 2.5]}},
    }


def test_the_order_of_paths_does_not_matter() -> None:
    flat = {"a.b.c": 1, "a.b": "@x", "a": "@y"}

    assert nested(flat) == nested(dict(reversed(flat.items())))
    assert nested(flat) == {"a": {"@": "@y", "b": {"@": "@x", "c": 1}}}


def test_values_become_what_json_has() -> None:
    found = nested({"symbol": Symbol("@x"), "path": Path("a/b"), "map": {1: {2}}, "flag": True})

    assert found == {"symbol": "@x", "path": "a/b", "map": {"1": "{2}"}, "flag": True}
    assert type(found["symbol"]) is str
