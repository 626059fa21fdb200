from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from core.config.load import load_experiment
from core.errors import ConfigError
from tests.core.config.conftest import STAGE

ROOT = Path(__file__).parents[3]
GOOD = """
import fiddle as fdl
from core.experiment import Experiment

def experiment(*, n: int = 1) -> fdl.Config[Experiment]:
    return fdl.Config(Experiment)
"""


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the modules and path entries that a test adds."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


def write(folder: Path, name: str, text: str = GOOD) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "target", [STAGE, "tests.core.config.toy.stage", "tests/core/config/toy/stage.py"]
)
def test_a_file_and_a_module_are_the_same_experiment(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    file = load_experiment(target)

    assert file.module == "tests.core.config.toy.stage"
    assert file.path == Path(STAGE)
    assert file.function is sys.modules[file.module].experiment
    assert list(file.knobs) == ["scale", "width", "train", "rate"]
    assert file.knobs["scale"].annotation == Literal["small", "large"]
    assert sorted(file.presets) == ["broken", "idle", "narrow", "quick"]


def test_a_file_outside_any_package_is_imported_from_its_folder(tmp_path: Path) -> None:
    file = load_experiment(write(tmp_path, "sori_outside"))

    assert file.module == "sori_outside"
    assert str(tmp_path) in sys.path


def test_a_file_in_a_package_is_imported_under_its_full_name(tmp_path: Path) -> None:
    package = tmp_path / "sori_lab" / "stages"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()

    file = load_experiment(write(package, "one"))

    assert file.module == "sori_lab.stages.one"
    assert str(tmp_path) in sys.path
    assert str(package) not in sys.path


def test_loading_works_from_any_folder(tmp_path: Path) -> None:
    code = f"from core.config.load import load_experiment;print(load_experiment({STAGE!r}).module)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "tests.core.config.toy.stage"


def test_a_name_that_another_module_has_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    path = write(first, "sori_twice")
    load_experiment(path)

    with pytest.raises(ConfigError) as caught:
        load_experiment(other := write(second, "sori_twice"))

    assert str(caught.value) == (
        f"{other}: is module 'sori_twice', but that name is taken by {path}; rename the file"
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tests/core/config/toy/stge.py", r"stge\.py: no such file; did you mean 'stage\.py'\?"),
        ("no/such/folder/x.py", r"no/such/folder/x\.py: no such file, and no folder .*folder"),
        ("core/registryy", r"core/registryy: no such file; "),
        ("stage1_ct", r"stage1_ct: no such .* did you mean experiments/stage1_ctc\.py\?"),
        ("core.nothing", r"core\.nothing: no such experiment file or module; "),
    ],
)
def test_what_does_not_exist(target: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    with pytest.raises(ConfigError, match=message):
        load_experiment(target)


def test_a_file_that_is_not_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a Python module; expected a file such as"):
        load_experiment(write(tmp_path, "not-a-name"))


def test_a_file_without_an_experiment_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "sori_empty", "x = 1\n")

    with pytest.raises(ConfigError) as caught:
        load_experiment(path)

    assert str(caught.value) == (
        f"{path}: defines no function 'experiment'; expected "
        "def experiment(*, knob: type = value, ...) -> fdl.Config[Experiment]"
    )


def test_every_bad_knob_is_named_with_file_and_line(tmp_path: Path) -> None:
    text = "\n\ndef experiment(a: int = 1, *, b=2, c: int, d: int = 'x', e: int = 1): ...\n"
    path = write(tmp_path, "sori_knobs", text)

    with pytest.raises(ConfigError) as caught:
        load_experiment(path)

    assert str(caught.value) == (
        "4 problems in the configuration:\n"
        f"  1. {path}:3: knob 'a' must be keyword-only: write * before it\n"
        f"  2. {path}:3: knob 'b' has no annotation, such as ': int'\n"
        f"  3. {path}:3: knob 'c' has no default\n"
        f"  4. {path}:3: knob 'd' has the default 'x', which is not int"
    )


def test_two_presets_of_one_name_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "sori_presets"
    package.mkdir()
    (package / "__init__.py").touch()
    fast = "from core.config.presets import preset\n@preset\ndef fast(config): ...\n"
    write(package, "presets", fast)
    path = write(package, "one", GOOD + fast)

    with pytest.raises(ConfigError, match=r"one\.py: preset 'fast' is also in .*presets\.py"):
        load_experiment(path)


def test_presets_of_another_folder_are_not_taken(tmp_path: Path) -> None:
    assert load_experiment(write(tmp_path, "sori_alone")).presets == {}
