from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import RunDirError
from core.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]

HOLDER = """
import os, sys, time
from pathlib import Path
from core.rundir import RunDir
run = RunDir.create(Path(sys.argv[1]), "run", rank=0)
worker = os.fork()
if worker == 0:
    time.sleep(60)
    os._exit(0)
print(worker, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds ``tmp_path/run`` and has forked a worker, whose id comes second."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    yield process, worker
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(worker, signal.SIGKILL)


def test_paths_and_folders(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "runs", "one", rank=0) as run:
        assert run.path == tmp_path / "runs" / "one"
        assert run.checkpoints.is_dir()
        assert run.assets.is_dir()
        assert run.samples.is_dir()
        assert run.log == run.path / "log.txt"
        assert run.metrics == run.path / "metrics.jsonl"
        assert run.config_dir == run.path
        assert run.status()["status"] == "running"


def test_other_ranks_touch_nothing(tmp_path: Path) -> None:
    with RunDir.create(tmp_path, "one", rank=1) as run:
        run.set_status("finished", step=3)

    assert list(tmp_path.iterdir()) == []


def test_a_live_writer_is_named_and_a_killed_one_is_forgotten(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], int]
) -> None:
    process, worker = holder
    with pytest.raises(RunDirError, match=f"being written by process {process.pid} on .* since 20"):
        RunDir.create(tmp_path, "run", rank=0)
    assert RunDir.open(tmp_path / "run").status()["status"] == "running"

    process.kill()
    process.wait()
    os.kill(worker, 0)  # its forked worker lives on, and must not hold the lock

    assert RunDir.open(tmp_path / "run").status()["status"] == "interrupted"
    with RunDir.create(tmp_path, "run", rank=0) as run:
        assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()


def test_a_second_writer_in_the_same_process_is_refused_until_release(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run", rank=0)
    with pytest.raises(RunDirError, match=f"process {os.getpid()}"):
        RunDir.create(tmp_path, "run", rank=0)

    run.release()
    run.release()
    RunDir.create(tmp_path, "run", rank=0).release()


def test_a_refused_writer_leaves_the_status_alone(tmp_path: Path) -> None:
    with RunDir.create(tmp_path, "run", rank=0) as run:
        run.set_status("running", step=41)
        with pytest.raises(RunDirError):
            RunDir.create(tmp_path, "run", rank=0)
        assert run.status()["step"] == 41


def test_status_keeps_the_step_and_says_why(tmp_path: Path) -> None:
    with RunDir.create(tmp_path, "run", rank=0) as run:
        run.set_status("running", step=12)
        run.set_status("failed", reason="out of memory")

    status = RunDir.open(run.path).status()
    assert (status["status"], status["step"], status["reason"]) == ("failed", 12, "out of memory")


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")

    with pytest.raises(
        RunDirError, match=r"cannot write run directory .*runs/one: Not a directory"
    ):
        RunDir.create(tmp_path / "runs", "one", rank=0)


def test_a_read_only_file_system_is_refused_before_any_step(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "run").mkdir(parents=True)
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    try:
        with pytest.raises(RunDirError, match="Read-only file system"):
            RunDir.create(disk, "run", rank=0)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_warnings_go_to_the_log_until_release(tmp_path: Path) -> None:
    logger = logging.getLogger("some.library")
    with RunDir.create(tmp_path, "run", rank=0) as run:
        logger.warning("the disk is getting full")
        logger.info("not worth a line")
    logger.warning("after the run")

    text = run.log.read_text()
    assert "WARNING some.library: the disk is getting full" in text
    assert text.count("\n") == 1


def test_opening_what_is_no_run_is_refused(tmp_path: Path) -> None:
    RunDir.create(tmp_path, "run-one", rank=0).release()
    (tmp_path / "empty").mkdir()

    assert RunDir.open(tmp_path / "run-one").checkpoints.is_dir()
    with pytest.raises(RunDirError, match="did you mean 'run-one'"):
        RunDir.open(tmp_path / "run-onne")
    with pytest.raises(RunDirError, match="empty is not a run directory"):
        RunDir.open(tmp_path / "empty")
