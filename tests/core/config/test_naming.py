from __future__ import annotations

from pathlib import Path

import fiddle as fdl
import pytest
from fiddle import history

from core.config.naming import attributed, defined_at, format_location, label, location, place
from core.config.paths import parse_path, resolve
from tests.core.config.conftest import STAGE, Toy
from tests.core.config.toy import stage
from tests.core.config.toy.parts import Mixing, times


def test_labels(toy: Toy) -> None:
    config = toy.config()

    assert label(config.task.encoder) == "@encoder/conformer"
    assert label(fdl.Config(Mixing)) == "tests.core.config.toy.parts.Mixing"
    assert label(fdl.Partial(times)) == "partial tests.core.config.toy.parts.times"
    assert label(fdl.ArgFactory(Mixing)) == "factory tests.core.config.toy.parts.Mixing"
    assert label([config.task.head, 3]) == "[@head/ctc, 3]"
    assert label("x") == "'x'"


def test_locations(toy: Toy) -> None:
    config = toy.config("task.encoder.layers=4", "task.head=@head/ctc")

    def where(path: str) -> str:
        return location(resolve(config, parse_path(path)))

    assert where("task.encoder.dim") == f"set at {toy.at('encoder=fdl.Config(')}"
    assert where("task.encoder.layers") == "set at command line"
    assert where("task.encoder.heads") == "default of ConformerEncoder"
    assert where("task.head") == "set at command line"
    assert place(resolve(config, parse_path("task.head"))) == "@head/ctc, set at command line"


def test_what_has_no_history_says_so() -> None:
    with history.suspend_tracking():
        config = fdl.Config(Mixing, ctc=0.1)

    assert location(resolve(config, parse_path("ctc"))) == "set in code"


def test_files_are_named_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = stage.experiment.__code__.co_firstlineno

    monkeypatch.chdir(Path(STAGE).parent)
    assert defined_at(stage.experiment) == f"stage.py:{line}"
    monkeypatch.chdir(tmp_path)
    assert defined_at(stage.experiment) == f"{STAGE}:{line}"


def test_edits_are_attributed_to_a_source() -> None:
    with attributed("elsewhere"):
        config = fdl.Config(Mixing, ctc=0.1)

    entry = config.__argument_history__["ctc"][-1]
    assert format_location(entry.location) == "elsewhere"
