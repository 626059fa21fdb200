from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest
import torch

from core.config import snapshot
from core.config.flatten import fingerprint, flat_text
from core.config.naming import location
from core.config.paths import parse_path, resolve
from core.errors import ConfigError, ConfigErrors
from core.experiment import Experiment
from core.train.trainer import Trainer
from tests.core.config.conftest import Toy
from tests.core.config.toy.parts import Mixing, Norm

ROOT = Path(__file__).parents[3]
save = functools.partial(snapshot.save, header={"target": "toy"}, allow=["tests"])
load = functools.partial(snapshot.load, allow=["tests"])


def rich(toy: Toy) -> fdl.Config[Experiment]:
    """Return the toy with every kind of value that can be saved."""
    config = toy.config("+quick", "data.train=한국어 'x' \"y\" = \\ z")
    config.data.cache = Path("/데이터")
    config.data.dtype = torch.bfloat16
    config.data.folds = (1, 2)
    config.task.norm = Norm.LAYER
    config.trainer.clip_norm = float("inf")
    config.data.anything = {"nested": [None, True, (1.5, Mixing)], "deep": {"k": Path("x")}}
    return config


def test_what_is_saved_is_loaded_with_its_sharing(toy: Toy, tmp_path: Path) -> None:
    config = rich(toy)

    save(config, tmp_path)
    loaded = load(tmp_path)

    assert loaded == config
    assert flat_text(loaded) == flat_text(config)
    assert loaded.task.tokenizer is loaded.data.tokenizer
    assert isinstance(loaded.data.sort, fdl.Partial)
    assert (tmp_path / "config.txt").read_text() == flat_text(config)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "config.py", "config.txt"]


def test_the_generated_module_rebuilds_the_configuration(toy: Toy, tmp_path: Path) -> None:
    config = rich(toy)
    save(config, tmp_path)

    code = (
        "import config, core.config.flatten as f; print(f.flat_text(config.experiment()), end='')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.rstrip() == flat_text(config).rstrip()


def test_the_header_comes_back_with_the_fingerprint(toy: Toy, tmp_path: Path) -> None:
    config = toy.config()
    snapshot.save(config, tmp_path, header={"knobs": {"width": 144}}, allow=["tests"])

    assert snapshot.read_header(tmp_path) == {
        "fingerprint": fingerprint(config),
        "knobs": {"width": 144},
    }


def test_loaded_values_come_from_the_file(toy: Toy, tmp_path: Path) -> None:
    save(toy.config(), tmp_path)

    slot = resolve(load(tmp_path), parse_path("task.encoder.dim"))

    assert location(slot) == f"set at {tmp_path / 'config.json'}"


def test_saving_twice_replaces_whole_files(toy: Toy, tmp_path: Path) -> None:
    save(toy.config(), tmp_path)
    save(toy.config("width=16"), tmp_path)

    assert load(tmp_path).task.encoder.dim == 16


def edit(directory: Path, change: Any) -> None:
    path = directory / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rename(old: tuple[str, str], new: tuple[str, str]) -> Any:
    """Return an edit of saved JSON that refers to another name."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if (node.get("module"), node.get("name")) == old:
                node["module"], node["name"] = new
            node = list(node.values())
        for item in node if isinstance(node, list) else []:
            walk(item)

    return walk


@pytest.mark.parametrize(
    "reference",
    [
        ("subprocess", "Popen"),
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "open"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch", "os.system"),
        ("core.run", "sys.exit"),
        ("core.config.compose", "compose_target"),
        ("core.config.snapshot", "os.replace"),
        ("fiddle.experimental.serialization", "import_symbol"),
        ("tests.core.config.test_snapshot", "subprocess.Popen"),
    ],
)
def test_references_outside_the_allowlist_are_refused_by_name(
    toy: Toy, tmp_path: Path, reference: tuple[str, str]
) -> None:
    save(toy.config(), tmp_path)
    edit(tmp_path, rename(("core.train.trainer", "Trainer"), reference))

    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path)

    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(
        f"{tmp_path}/config.json: refers to {'.'.join(reference)}, which is not allowed (packages "
    )


def test_a_refused_module_is_not_even_imported(toy: Toy, tmp_path: Path) -> None:
    module = tmp_path / "sori_trap.py"
    module.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Trap: pass\n")
    save(toy.config(), tmp_path)
    edit(tmp_path, rename(("core.train.trainer", "Trainer"), ("sori_trap", "Trap")))

    code = (
        "import pathlib, sys; from core.config import snapshot;"
        "snapshot.load(pathlib.Path(sys.argv[1]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "refers to sori_trap.Trap, which is not allowed" in run.stderr
    assert not (tmp_path / "sprung").exists()


def test_every_missing_name_is_listed(toy: Toy, tmp_path: Path) -> None:
    save(toy.config(), tmp_path)
    edit(tmp_path, rename(("core.train.trainer", "Trainer"), ("core.train.trainer", "Treiner")))
    edit(tmp_path, rename(("components.heads.ctc", "CTCHead"), ("components.heads.no", "Head")))

    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path)

    assert sorted(text.split(": ", 1)[1].split(":")[0] for text in caught.value.problems) == [
        "refers to components.heads.no.Head, which does not exist here",
        "refers to core.train.trainer.Treiner, which does not exist here",
    ]


def test_arguments_that_no_longer_exist_are_all_named(toy: Toy, tmp_path: Path) -> None:
    save(toy.config(), tmp_path)

    def rename_arguments(document: dict[str, Any]) -> None:
        text = json.dumps(document).replace('"max_steps"', '"steps"').replace('"dim"', '"width"')
        document.update(json.loads(text))

    edit(tmp_path, rename_arguments)

    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path)

    where = f"{tmp_path}/config.json: "
    assert caught.value.problems[0].startswith(
        f"{where}task.encoder.width: components.encoders.conformer.ConformerEncoder no longer "
        "takes 'width'; "
    )
    assert caught.value.problems[1].startswith(
        f"{where}trainer.steps: core.train.trainer.Trainer no longer takes 'steps'; did you mean "
    )
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"root": 1, "obj', "cannot be read: Unterminated string"),
        ("[]", "is not a saved configuration"),
        ('{"root": 1}', "is not a saved configuration"),
        ('{"root": 1, "objects": {}}', "holds a int, expected a fdl.Config"),
        (
            '{"root": {"type": "ref", "key": "x"}, "objects": {}}',
            "damaged: KeyError: 'x'",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(ConfigError) as caught:
        load(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path}/config.json: {reason}")


def test_what_could_not_be_loaded_again_is_not_saved(toy: Toy, tmp_path: Path) -> None:
    config = toy.config()
    config.data.anything = subprocess.Popen

    with pytest.raises(ConfigErrors) as caught:
        snapshot.save(config, tmp_path, header={}, allow=["tests"])

    assert caught.value.problems == (
        "data.anything: subprocess.Popen is outside the packages that a saved configuration may "
        "refer to; register its package under the entry-point group sori.components",
    )
    config.data.anything = torch.device("cpu")
    with pytest.raises(ConfigError, match="the configuration cannot be saved: Unserializable"):
        save(config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_of_unknown_packages_is_not_saved(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        snapshot.save(toy.config(), tmp_path, header={})

    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "task",
        "task.mixing",
        "data",
        "data.sort",
        "callbacks[0]",
        "callbacks[1]",
    ]


def test_first_party_configurations_need_no_permission(tmp_path: Path) -> None:
    config = fdl.Config(Experiment, name="x", trainer=fdl.Config(Trainer))

    snapshot.save(config, tmp_path, header={})

    assert snapshot.load(tmp_path) == config
