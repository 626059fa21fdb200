from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from core import catalog
from core.config import snapshot
from core.config.compose import compose_target
from core.config.flatten import flat_text, flatten
from core.contracts import RunInfo
from core.inspect import VERBS, main
from core.registry import register
from tests.fixtures.plugins import TOY_PLUGIN, declare_plugin

ROOT = Path(__file__).resolve().parents[2]
STAGE = "experiments/stage1_ctc.py"


def inspect(*arguments: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with further folders on the path."""
    return subprocess.run(
        [sys.executable, "-m", "core.inspect", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """Run the command in this process and return its output, or its message if it fails."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


# -------------------------------------------------------------------------------------- listings


def test_listing_has_every_component_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from core.inspect import main\n"
        "for arguments in ([], ['--json'], ['encoder'], ['encoder/conformer']):\n"
        "    assert main(arguments) == 0\n"
        "heavy = {'torch', 'fiddle', 'rich', 'lhotse', 'numpy', 'components', 'experiments'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for entry in catalog.index().entries:
        assert re.search(rf"^  {entry.kind} .*\b{entry.name}\b", done.stdout, re.MULTILINE | re.S)


def test_overview_counts_the_components_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    index = catalog.index()
    assert text.startswith(f"{sum(index.counts().values())} components of {len(index.kinds())} ")
    for kind, count in index.counts().items():
        assert re.search(rf"^  {kind} +{count}  {index.names(kind)[0]}", text, re.MULTILINE)
    assert json.loads(printed(capsys, "--json"))["kinds"]["scheduler"] == list(
        index.names("scheduler")
    )


def test_kind_shows_signature_summary_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, "scheduler").split())
    for entry in catalog.index().of_kind("scheduler"):
        assert f"{entry.name} {entry.summary}" in text
        assert entry.signature in text
        assert f"{entry.file.relative_to(ROOT)}:{entry.line}" in text
    listed = json.loads(printed(capsys, "scheduler", "--json"))
    assert [c["name"] for c in listed["components"]] == list(catalog.index().names("scheduler"))


def test_page_shows_parameters_and_the_experiments_that_use_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, "encoder/conformer")
    entry = catalog.index().find("encoder", "conformer")
    lines = text.splitlines()
    assert lines[0] == "encoder/conformer"
    assert lines[1] == "components.encoders.conformer.ConformerEncoder"
    assert lines[2] == f"components/encoders/conformer.py:{entry.line}"
    assert "Args:" not in text
    for parameter in entry.parameters:
        assert f"  {parameter.name}: {parameter.annotation}" in text
        assert parameter.doc in " ".join(text.split())
    assert re.search(rf"used by:\n(  .*\n)*  {STAGE}:\d+", text)


def test_page_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "encoder/conformer", "--json"))
    assert found["name"] == "conformer"
    assert STAGE in {str(Path(use["file"]).relative_to(ROOT)) for use in found["used_by"]}
    dim = next(p for p in found["parameters"] if p["name"] == "dim")
    assert dim["annotation"] == "int"
    assert dim["required"] is False
    assert dim["doc"]


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("encodr", "did you mean 'encoder'"),
        ("encoder/conformr", "unknown encoder 'conformr': did you mean 'conformer'?"),
        ("encodr/conformer", "did you mean 'encoder'"),
        ("shwo", "did you mean 'show'?"),
        (STAGE, f"say what to do with it: {', '.join(VERBS)}"),
    ],
)
def test_unknown_subject_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str], subject: str, message: str
) -> None:
    error = printed(capsys, subject, status=3)
    assert error.startswith("RegistryError: ")
    assert message in error


def test_verbs_are_no_kinds() -> None:
    assert not set(VERBS) & set(catalog.index().kinds())


# --------------------------------------------------------------------------------------- plugins


def test_installed_plugin_is_listed_with_its_distribution(tmp_path: Path) -> None:
    declare_plugin(tmp_path, distribution="sori-toy-plugin", module="sori_toy_plugin")
    done = inspect("encoder", path=(tmp_path, TOY_PLUGIN))
    assert done.returncode == 0, done.stderr
    assert "  toy_mean_pool  Average ``stride`` frames and project the mean." in done.stdout
    assert re.search(r"mean_pool\.py:\d+  \[sori-toy-plugin\]", done.stdout)
    assert "conformer" in done.stdout
    assert "broken" not in done.stdout


def test_component_of_a_plugin_can_be_swapped_in(tmp_path: Path) -> None:
    declare_plugin(tmp_path, distribution="sori-toy-plugin", module="sori_toy_plugin")
    swap = ("task.encoder=@encoder/toy_mean_pool", "task.encoder.stride=2")
    done = inspect("show", STAGE, *swap, path=(tmp_path, TOY_PLUGIN))
    assert done.returncode == 0, done.stderr
    assert "task.encoder: @encoder/toy_mean_pool\n" in done.stdout
    assert "task.encoder.stride: 2\n" in done.stdout
    assert "task.encoder: @encoder/conformer -> @encoder/toy_mean_pool" in done.stderr


def test_broken_plugins_are_listed_with_their_reasons(tmp_path: Path) -> None:
    (tmp_path / "acme_half.py").write_text("from core.registry import register\ndef f(:\n")
    declare_plugin(tmp_path, distribution="acme-half", module="acme_half")
    declare_plugin(tmp_path, distribution="acme-gone", module="acme_gone")
    done = inspect(path=(tmp_path,))
    assert done.returncode == 0, done.stderr
    assert "broken (2), fatal only when used:" in done.stdout
    assert "acme_half.py:2 [acme-half]: SyntaxError: " in done.stdout
    assert (
        "entry point acme-gone = acme_gone [acme-gone]: no module named 'acme_gone' is installed"
    ) in done.stdout
    listed = json.loads(inspect("--json", path=(tmp_path,)).stdout)
    assert {item["package"] for item in listed["broken"]} == {"acme-half", "acme-gone"}


def test_reader_that_goes_away_sees_no_traceback() -> None:
    command = f"{sys.executable} -m core.inspect --json | head -1"
    for _ in range(3):
        done = subprocess.run(
            command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.stdout == "{\n"
        assert done.stderr == ""


# --------------------------------------------------------------------------- experiments and runs


def test_show_prints_the_flat_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "show", STAGE, "task.encoder.dim=16").splitlines()
    assert "task.encoder: @encoder/conformer" in lines
    assert "task.encoder.dim: 16" in lines
    found = json.loads(printed(capsys, "show", STAGE, "--json"))
    assert found["task.encoder"] == "@encoder/conformer"


def test_show_ends_with_the_parameters_by_module_as_comments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, "show", STAGE).splitlines()
    settings = [line for line in lines if not line.startswith("#")]
    assert settings == flat_text(compose_target(STAGE, ()).config).splitlines()
    table = lines[len(settings) :]
    assert table[0].split() == ["#", "module", "class", "trainable", "all"]
    (encoder,) = [line.split() for line in table if line.startswith("# encoder ")]
    assert encoder[2:] == ["ConformerEncoder", "1,688,544", "1,688,544"]


def test_show_says_why_there_is_no_parameter_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "show", STAGE, "task.encoder.heads=3").splitlines()
    assert "task.encoder.heads: 3" in lines
    assert lines[-1].startswith("# no parameter table: ConfigError: ")
    assert "heads=3" in lines[-1]


def test_show_says_on_standard_error_what_overrides_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", STAGE, "trainer.log_every=7"]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"trainer\.log_every: \d+ -> 7\n", captured.err)
    assert "trainer.log_every: 7\n" in captured.out


def test_lint_passes_the_stage_and_refuses_a_bad_override(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert printed(capsys, "lint", STAGE) == f"{STAGE}: no problem found\n"
    error = printed(capsys, "lint", STAGE, "task.encoder.dmi=3", status=2)
    assert "task.encoder.dim" in error


def test_diff_of_two_experiments(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert printed(capsys, "diff", STAGE, STAGE) == "no difference\n"
    (tmp_path / "inspect_variant.py").write_text(
        "import fiddle as fdl\n"
        "from core.experiment import Experiment\n"
        "from experiments import stage1_ctc\n"
        "def experiment(*, seed: int = 5) -> fdl.Config[Experiment]:\n"
        "    return stage1_ctc.experiment(seed=seed)\n"
    )
    text = printed(capsys, "diff", STAGE, str(tmp_path / "inspect_variant.py"))
    assert text == "~ seed: 0 -> 5\n"


def test_graph_goes_to_standard_output_or_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = printed(capsys, "graph", STAGE)
    assert text.startswith("digraph ")
    assert "@encoder/conformer" in text
    file = tmp_path / "stage.dot"
    assert f"wrote {file}" in printed(capsys, "graph", STAGE, "--out", str(file))
    assert file.read_text() == text
    error = printed(capsys, "graph", STAGE, "--out", str(tmp_path / "no" / "x.dot"), status=1)
    assert f"{tmp_path / 'no' / 'x.dot'}: cannot be written" in error


def test_explain_names_the_line_that_set_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "explain", STAGE, "task.encoder.dim")
    assert text.startswith("task.encoder.dim\n")
    assert re.search(rf"{STAGE}:\d+", text)
    assert "model width" in text
    changed = printed(capsys, "explain", STAGE, "task.encoder.dim", "task.encoder.dim=16")
    assert "16   command line" in changed
    error = printed(capsys, "explain", STAGE, "task.encoder.dmi", status=2)
    assert "task.encoder.dim" in error


class Recorder:
    """A tracker that keeps what it is told."""

    told: ClassVar[list[object]] = []

    def start(self, run: RunInfo) -> None:
        self.told[:] = [run.name, dict(run.hparams)]

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        self.told.append((step, epoch, dict(values)))

    def finish(self, status: str) -> None:
        self.told.append(status)


def test_sync_replays_metrics_with_the_configuration_of_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    register("tracker", "test-recorder")(Recorder)
    run = tmp_path / "run"
    run.mkdir()
    config = compose_target(STAGE, ()).config
    snapshot.save(config, run, header={})
    (run / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 0, "time": 1.0, "train/loss": 2.5}\n'
        '{"step": 2, "epoch": 0, "time": 2.0, "train/loss": "nan"}\n'
    )
    text = printed(capsys, "sync", str(run), "--tracker", "test-recorder")
    assert text == f"{run}: 2 lines of metrics replayed into test-recorder\n"
    name, hparams, first, second, status = Recorder.told
    assert name == config.name
    assert hparams == flatten(config)
    assert first == (1, 0, {"train/loss": 2.5})
    assert isinstance(second, tuple)
    assert math.isnan(second[2]["train/loss"])
    assert isinstance(status, str)


def test_sync_goes_on_without_a_configuration_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    register("tracker", "test-recorder")(Recorder)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0, "time": 1.0, "a": 1.0}\n')
    assert main(["sync", str(tmp_path), "--tracker", "test-recorder"]) == 0
    assert "replayed without its configuration: " in capsys.readouterr().err
    assert Recorder.told[:2] == [tmp_path.name, {}]


def test_sync_refuses_what_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = printed(capsys, "sync", str(tmp_path / "gone"), status=6)
    assert error.startswith("RunDirError: ")
    assert error.count("\n") == 1


def test_missing_experiment_is_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    error = printed(capsys, "show", "experiments/stage1_ctd.py", status=2)
    assert "did you mean 'stage1_ctc.py'?" in error
