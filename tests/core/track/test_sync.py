from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from core.contracts import Artifact, RunInfo
from core.errors import RegistryError, RunDirError
from core.rundir import RunDir
from core.track.jsonl import JsonlTracker
from core.track.sync import sync_run


class Collector:
    def __init__(self) -> None:
        self.rows: list[tuple[int, int, dict[str, float]]] = []
        self.status = ""
        self.name = ""

    def start(self, run: RunInfo) -> None:
        self.name = run.name

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        self.rows.append((step, epoch, dict(values)))

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        raise AssertionError("there are none in metrics.jsonl")

    def finish(self, status: str) -> None:
        self.status = status


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with RunDir.create(tmp_path, "run", rank=0) as directory:
        tracker = JsonlTracker()
        tracker.start(RunInfo(directory=directory.path, name="run", hparams={}))
        tracker.metrics({"train/loss": 0.1}, step=1, epoch=0)
        tracker.metrics({"train/loss": 0.2, "val/wer": 1 / 3}, step=2, epoch=1)
        tracker.finish("stopped")
        directory.set_status("stopped", step=2)
    return tmp_path / "run"


def test_every_scalar_is_sent_in_order(run: Path) -> None:
    sink = Collector()

    assert sync_run(run, sink) == 2

    assert sink.rows == [
        (1, 0, {"train/loss": 0.1}),
        (2, 1, {"train/loss": 0.2, "val/wer": 1 / 3}),
    ]
    assert (sink.name, sink.status) == ("run", "stopped")
    assert RunDir.open(run).status()["status"] == "stopped"


def test_what_probes_found_is_sent_too(run: Path) -> None:
    folder = RunDir.open(run).probes
    folder.mkdir()
    figures = {"step": 2, "epoch": 1, "metrics": {"probe/speaker_linear": 0.5, "probe/x": None}}
    (folder / "step_00000002.json").write_text(json.dumps(figures))
    sink = Collector()
    assert sync_run(run, sink) == 3
    assert sink.rows[-1] == (2, 1, {"probe/speaker_linear": 0.5})
    (folder / "step_00000003.json").write_text("{}")
    with pytest.raises(RunDirError, match="not what probes write"):
        sync_run(run, sink)


def test_a_run_that_is_being_written_is_refused(run: Path) -> None:
    with (
        RunDir.create(run.parent, run.name, rank=0),
        pytest.raises(RunDirError, match="is being written by process"),
    ):
        sync_run(run, Collector())


def test_a_run_without_metrics_and_an_unknown_tracker_are_refused(run: Path) -> None:
    with pytest.raises(RegistryError, match="aimm"):
        sync_run(run, "aimm")
    (run / "metrics.jsonl").unlink()
    with pytest.raises(RunDirError, match=r"cannot read .*metrics\.jsonl"):
        sync_run(run, Collector())
