from __future__ import annotations

from pathlib import Path

import pytest

from core.config.compose import compose
from core.config.load import load_experiment
from core.errors import CheckpointError, ConfigError
from core.train.initial import start_name, suggested_knobs

STAGE1 = str(Path(__file__).parents[3] / "experiments/stage1_ctc.py")


def test_paths_and_uris_have_one_spelling(tmp_path: Path) -> None:
    assert start_name(f"{tmp_path}/") == str(tmp_path)
    assert start_name("nemo:model.nemo") == "nemo:model.nemo"
    assert start_name("runs/not-there-yet") == "runs/not-there-yet"


def test_a_bare_file_needs_its_form(tmp_path: Path) -> None:
    file = tmp_path / "weights.ckpt"
    file.touch()
    for name in (str(file), "model.nemo"):
        with pytest.raises(CheckpointError, match="such as") as refused:
            start_name(name)
        for form in ("indextts", "nemo", "peft", "merged"):
            assert f"{form}:{name}" in str(refused.value)
    with pytest.raises(ConfigError, match="did you mean 'nemo'"):
        start_name("neno:model.nemo")


def test_only_runs_suggest_an_architecture() -> None:
    assert suggested_knobs("runs/a") == {"encoder_from": "runs/a"}
    assert suggested_knobs("nemo:model.nemo") == {}
    assert suggested_knobs(None) == {}


def test_a_suggested_knob_gives_way_to_what_the_user_set_and_to_files_without_it() -> None:
    file = load_experiment(STAGE1)
    composed = compose(file, ["seed=2"], suggested={"seed": "7", "no_such_knob": "x"})
    assert composed.knobs["seed"] == 2
    assert compose(file, [], suggested={"seed": "7"}).config.seed == 7
    assert composed.notes == ()
