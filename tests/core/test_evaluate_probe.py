"""``core.evaluate --probe`` on runs made by ``core.run``, one whose vector hides the speaker."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.evaluate import main
from core.run import main as run
from core.rundir import RunDir
from core.runlock import RunLock
from tests.fixtures.pair_files import write_pairs
from tests.fixtures.plugins import declare_plugin
from tests.fixtures.voices import write_mapping, write_voices

FIXTURES = Path(__file__).parents[1] / "fixtures"
EXPERIMENT = FIXTURES / "voices_experiment.py"
STEP = "step_00000002"
VOICES, UTTERANCES = range(6), 15


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let saved configurations refer to the tasks of the test's own package."""
    folder = tmp_path_factory.mktemp("site")
    for module in ("voices_experiment", "pairs_experiment"):
        name = f"sori-{module.replace('_', '-')}-test"
        declare_plugin(folder, distribution=name, module=f"tests.fixtures.{module}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        yield folder


@pytest.fixture(scope="module")
def place(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, the run ``plain`` and the run ``forgetful``."""
    folder = tmp_path_factory.mktemp("voices")
    write_voices(folder, speakers=VOICES, utterances=4, name="train")
    write_voices(folder, speakers=VOICES, utterances=UTTERANCES, name="test")
    write_voices(folder, speakers=range(6, 9), utterances=6, name="unseen")
    write_mapping(folder / "speakers.json", VOICES)
    for name, knobs in (("plain", ()), ("forgetful", ("forget=true", f"repo={folder}"))):
        train(folder, name, *knobs)
    return folder


def train(folder: Path, name: str, *knobs: str) -> None:
    arguments = [EXPERIMENT, f"folder={folder}", *knobs, "--run-dir", folder / name]
    assert run([str(argument) for argument in arguments]) == 0


def probed(*arguments: str | Path) -> int:
    return main([*map(str, arguments), "--probe", "--device", "cpu"])


def accuracy(figures: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in figures["classes"][name] if r["kind"] == kind)
    return found


@pytest.fixture(scope="module")
def both(place: Path) -> dict[str, Any]:
    """What is found of the run that forgets, with the plain one beside it."""
    output = place / "both.json"
    twin = ("--twin", place / "plain")
    assert probed(place / "forgetful", *twin, "--seeds", "4", "--json", output) == 0
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found


def test_a_planted_speaker_is_found_and_a_shuffled_one_is_not(both: dict[str, Any]) -> None:
    for kind in ("linear", "mlp"):
        told = accuracy(both["twin"], "speaker", kind)
        assert told["accuracy"] > 0.95
        assert told["control"] < 0.4
        assert (told["chance"], told["classes"]) == (pytest.approx(1 / 6), 6)
        assert len(told["top1_by_seed"]) == 4
        assert accuracy(both["twin"], "emotion", kind)["accuracy"] > 0.7
    assert both["twin"]["verification"]["eer"] < 0.1
    assert both["twin"]["verification"]["speakers"] == 3


def test_each_utterance_counts_once_though_it_has_two_rows(both: dict[str, Any]) -> None:
    assert both["utterances"] == len(VOICES) * UTTERANCES + 3 * 6
    # A fifth of the utterances of known speakers; a fifth of the rows would be twice as many.
    assert accuracy(both["run"], "speaker", "linear")["tested"] == len(VOICES) * UTTERANCES // 5


def test_the_twin_stands_beside_the_run(both: dict[str, Any]) -> None:
    told = both["comparison"]
    assert told["speaker_linear"]["removed"] > 0.7
    assert told["speaker_mlp"]["removed"] > 0.7
    assert told["emotion_linear"]["points"] > -10.0
    assert abs(told["loss"]["percent"]) < 2.0
    assert told["loss"]["before"] == both["twin"]["extra"]["loss"]
    assert told["speaker_eer"]["after"] > 0.3
    assert both["differs"] == [
        "~ task: @task/speaker_adversarial -> tests.fixtures.voices_experiment.ForgetfulTask"
    ]
    assert both["metrics"]["probe/speaker_linear_removed"] == told["speaker_linear"]["removed"]


def test_prosody_is_measured_from_audio_and_mel(both: dict[str, Any]) -> None:
    linear = next(r for r in both["run"]["numbers"]["prosody"] if r["kind"] == "linear")
    assert set(linear["by_target"]) == {"pitch", "pitch_range", "energy", "energy_range", "rate"}
    assert linear["by_target"]["pitch"] > 0.8
    assert linear["by_target"]["energy_range"] > 0.6


def test_the_run_keeps_table_figures_and_picture(place: Path, both: dict[str, Any]) -> None:
    folder = place / "forgetful" / "probes"
    assert json.loads((folder / f"{STEP}.json").read_text()) == both
    table = (folder / f"{STEP}.txt").read_text(encoding="utf-8")
    assert "above chance removed" in table
    assert "open-set speaker verification: EER" in table
    assert (folder / f"{STEP}.png").read_bytes().startswith(b"\x89PNG")


def test_aim_has_what_was_found_and_the_metrics_file_stays(
    place: Path, both: dict[str, Any]
) -> None:
    aim = pytest.importorskip("aim")
    contexts = pytest.importorskip("aim.storage.context")
    folder = place / "forgetful"
    kept = (folder / "metrics.jsonl").read_text()
    assert "probe/" not in kept
    known = json.loads((folder / "aim_run.json").read_text())["hash"]
    stored = aim.Repo.from_path(str(place)).get_run(known)
    metric = stored.get_metric("speaker_linear", contexts.Context({"subset": "probe"}))
    steps, columns = metric.data.items_list()
    assert list(steps) == [2]
    assert columns[0][0] == pytest.approx(both["metrics"]["probe/speaker_linear"])
    image = stored.get_image_sequence("probes", contexts.Context({})).values.last_value()
    assert np.asarray(image.to_pil_image()).shape == (400, 900, 3)
    losses = stored.get_metric("gpt_loss", contexts.Context({"subset": "train"}))
    assert len(losses.data.items_list()[0]) == 2, "what training tracked is still there"
    assert stored["status"] == "finished"
    assert [found.hash for found in aim.Repo(str(place)).iter_runs()] == [known]


def test_rows_bound_what_is_probed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert probed(place / "plain", "test", "--rows", "60") == 0
    said = capsys.readouterr().out
    assert "test: 45 utterances of 3 speakers, from 180 rows of 6" in said
    assert "45 different utterances of 3 speakers" in said


def test_a_run_in_training_is_written_but_not_tracked(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(place / "forgetful", folder)
    shutil.rmtree(folder / "probes", ignore_errors=True)
    lock = RunLock(folder / RunDir.LOCK)
    try:
        assert probed(folder) == 0
    finally:
        lock.close()
    assert "not tracked" in capsys.readouterr().err
    assert (folder / "probes" / f"{STEP}.json").is_file()


def test_without_a_mapping_all_speakers_are_probed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(place, "bare", "mapping=false")
    assert probed(place / "bare", "unseen") != 0
    assert "probes need at least 20 different utterances" in capsys.readouterr().err
    output = place / "bare.json"
    assert probed(place / "bare", "--json", output) == 0
    found = json.loads(output.read_text())
    assert accuracy(found["run"], "speaker", "linear")["classes"] == 9
    assert found["run"]["verification"] is None


def test_a_single_checkpoint_is_probed_and_nothing_written_beside_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint,) = (place / "plain" / "checkpoints").glob(f"{STEP}*")
    alone = tmp_path / checkpoint.name
    shutil.copytree(checkpoint, alone)
    assert probed(alone) == 0
    assert "is in no run directory: nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [alone]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probe", "--seeds", "2"], "--seeds 2: probes need 3 at least"),
        (["--twin", "x"], "--twin is for probes; add --probe"),
        ([], "--probe tells what it learnt"),
        (["--probe", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--probe", "--rows", "0"], "--rows 0: probes need 1 at least"),
        (["--probe", "--worst", "3"], "--worst is for error rates"),
        (["--probe", "--no-baseline"], "--no-baseline is for error rates"),
        (["--probe", "--output", "o.jsonl"], "--output is for error rates"),
        (["--probe", "--base", "b"], "--base is for error rates"),
        (["--probe", "--json", "no/such/folder.json"], "folder.json cannot be written"),
    ],
)
def test_what_cannot_be_done_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(place / "plain"), *arguments]) != 0
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_task_without_probes_is_refused_with_those_that_have_some(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_pairs(tmp_path / "data", 8, mels=8)
    experiment = str(FIXTURES / "pairs_experiment.py")
    assert run([experiment, f"train={manifest}", "--run-dir", str(tmp_path / "mute")]) == 0
    assert probed(tmp_path / "mute") != 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "no probes" in line]
    assert "holds a PairTask, which offers no probes; what does: task/speaker_adversarial" in line
