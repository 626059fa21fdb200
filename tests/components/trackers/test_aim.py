from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from components.trackers.aim import MEMORY, AimTracker
from core.contracts import Artifact, RunInfo
from core.registry import lookup
from core.rundir import RunDir
from core.track.fanout import Fanout
from core.track.jsonl import JsonlTracker
from core.track.sync import sync_run

aim = pytest.importorskip("aim")
contexts = pytest.importorskip("aim.storage.context")

ROOT = Path(__file__).resolve().parents[3]
TONE = np.sin(np.arange(1600) / 5).astype(np.float32) * 0.5
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

WRITER = """
import sys, time
from pathlib import Path
from components.trackers.aim import AimTracker
from core.contracts import RunInfo
repo, name, steps, linger = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
directory = repo / "runs" / name
directory.mkdir(parents=True)
tracker = AimTracker(repo=repo)
tracker.start(RunInfo(directory=directory, name="race", hparams={"lr": 0.1}))
for step in range(1, steps + 1):
    tracker.metrics({"train/loss": float(step)}, step=step, epoch=0)
print("written", flush=True)
time.sleep(60 if linger == "linger" else 0)
tracker.finish("finished")
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one repository for all tests here: making one takes seconds."""
    return tmp_path_factory.mktemp("aim")


@pytest.fixture
def run(repo: Path, request: pytest.FixtureRequest) -> Path:
    directory = repo / "runs" / request.node.name
    directory.mkdir(parents=True)
    return directory


def info(run: Path, **changes: Any) -> RunInfo:
    return RunInfo(directory=run, name="stage1", **({"hparams": {}} | changes))


def track(repo: Path, run: Path, steps: range) -> None:
    tracker = AimTracker(repo=repo)
    tracker.start(info(run, resumed_step=steps.start - 1))
    for step in steps:
        tracker.metrics({"train/loss": float(step)}, step=step, epoch=0)
    tracker.finish("finished")


def run_hash(run: Path) -> str:
    return str(json.loads((run / MEMORY).read_text())["hash"])


def stored(repo: Path, run: Path) -> Any:
    found = aim.Repo.from_path(str(repo)).get_run(run_hash(run))
    assert found is not None
    return found


def points(repo: Path, run: Path) -> dict[int, float]:
    metric = stored(repo, run).get_metric("loss", contexts.Context({"subset": "train"}))
    steps, columns = metric.data.items_list()
    return dict(zip(steps, columns[0], strict=True))


def test_what_was_tracked_reads_back_through_the_sdk(repo: Path, run: Path) -> None:
    tracker = AimTracker(repo=repo)
    tracker.start(
        info(
            run,
            hparams={"task": "@task/ctc", "task.dim": 512, "lr": 1e-3},
            environment={"git": {"revision": "abc"}, "packages": {"torch": "2.11"}},
        )
    )
    for step in (1, 2, 3):
        tracker.metrics({"train/loss": 1 / step, "val/wer": 0.5, "speed": 9.0}, step=step, epoch=1)
    tracker.artifacts(
        [
            Artifact(name="text/utt-1", kind="text", value="hypothesis: hot", caption="hat"),
            Artifact(
                name="audio/utt-1", kind="audio", value=TONE, caption="hat", sample_rate=16_000
            ),
            Artifact(name="alignment/utt-1", kind="image", value=PIXELS, caption="hat"),
        ],
        step=3,
    )
    tracker.finish("finished")

    found = stored(repo, run)

    assert found["hparams"] == {"task": {"@": "@task/ctc", "dim": 512}, "lr": 1e-3}
    assert found["environment", "git", "revision"] == "abc"
    assert found["status"] == "finished"
    assert (found.name, found.experiment) == (run.name, "stage1")
    assert not found.active
    assert points(repo, run) == {1: 1.0, 2: 0.5, 3: 1 / 3}
    metrics = {(m.name, m.context.to_dict().get("subset")) for m in found.metrics()}
    assert metrics == {("loss", "train"), ("wer", "val"), ("speed", None)}
    context = contexts.Context({"utterance": "utt-1"})
    text = found.get_text_sequence("text", context).values.last_value()
    assert text.data == "hat\nhypothesis: hot"
    image = found.get_image_sequence("alignment", context).values.last_value()
    assert image.caption == "hat"
    assert np.array_equal(np.asarray(image.to_pil_image()), PIXELS)
    audio = found.get_audio_sequence("audio", context).values.last_value()
    samples, rate = soundfile.read(io.BytesIO(audio.get().read()), dtype="float32")
    assert rate == 16_000
    assert np.abs(samples - TONE).max() < 1e-4


def test_a_resumed_run_goes_on_in_the_same_aim_run(repo: Path, run: Path) -> None:
    track(repo, run, range(1, 8))
    before = run_hash(run)
    track(repo, run, range(6, 11))

    assert run_hash(run) == before
    assert points(repo, run) == {step: float(step) for step in range(1, 11)}


def test_a_run_goes_on_in_its_repository_wherever_the_command_is_typed(
    repo: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(repo, run, range(1, 4))
    before = run_hash(run)
    monkeypatch.chdir(tmp_path)
    tracker = AimTracker()
    tracker.start(info(run, resumed_step=3))
    tracker.metrics({"train/loss": 4.0}, step=4, epoch=0)
    tracker.finish("finished")

    assert run_hash(run) == before
    assert points(repo, run) == {step: float(step) for step in range(1, 5)}
    assert not list(tmp_path.iterdir())


@pytest.fixture
def killed(repo: Path, request: pytest.FixtureRequest) -> Path:
    """The directory of a run whose process was killed after 50 points."""
    name = request.node.name
    command = [sys.executable, "-c", WRITER, str(repo), name, "50", "linger"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return repo / "runs" / name


def test_a_killed_run_loses_no_point_and_is_taken_up(repo: Path, killed: Path) -> None:
    # As if its process id had been given to a live process, such as in another container.
    lock = repo / ".aim" / "locks" / f"{run_hash(killed)}.softlock"
    machine, _, started = lock.read_text().split("-")
    lock.write_text(f"{machine}-{os.getpid()}-{started}")

    track(repo, killed, range(41, 61))

    assert points(repo, killed) == {step: float(step) for step in range(1, 61)}
    assert not lock.exists()


def test_two_processes_may_make_the_repository_at_once(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), name, "5", ""] for name in "ab"]
    started = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]

    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert {found.name for found in aim.Repo(str(tmp_path)).iter_runs()} == {"a", "b"}


def _exit() -> None:
    """What a data loader's worker does last."""


def test_a_forked_worker_does_no_harm(repo: Path, run: Path) -> None:
    tracker = AimTracker(repo=repo)
    tracker.start(info(run))
    tracker.metrics({"train/loss": 1.0}, step=1, epoch=0)

    worker = multiprocessing.get_context("fork").Process(target=_exit)
    worker.start()
    worker.join()
    tracker.metrics({"train/loss": 2.0}, step=2, epoch=0)
    tracker.finish("finished")

    assert worker.exitcode == 0
    assert points(repo, run) == {1: 1.0, 2: 2.0}


def test_a_run_is_synced_from_its_metrics(
    repo: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDir.create(run.parent, run.name, rank=0) as directory:
        jsonl = JsonlTracker()
        jsonl.start(info(run))
        for step in (1, 2, 3):
            jsonl.metrics({"train/loss": float(step)}, step=step, epoch=0)
        jsonl.finish("finished")
        directory.set_status("finished", step=3)
    monkeypatch.chdir(repo)

    assert sync_run(run, "aim", hparams={"lr": 0.1}) == 3
    assert sync_run(run, AimTracker(repo=repo)) == 3

    assert points(repo, run) == {1: 1.0, 2: 2.0, 3: 3.0}
    assert stored(repo, run)["hparams"] == {"lr": 0.1}
    assert stored(repo, run)["status"] == "finished"


def test_without_aim_the_extra_is_named_and_the_run_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aim", None)
    said: list[str] = []
    fanout = Fanout([AimTracker()], say=said.append)

    fanout.start(info(run))
    fanout.metrics({"train/loss": 1.0}, step=1, epoch=0)
    fanout.finish("finished")

    assert len(said) == 1
    assert "AimTracker could not start" in said[0]
    assert "pip install 'sori[aim]'" in said[0]


def test_it_is_registered() -> None:
    assert lookup("tracker", "aim") is AimTracker
