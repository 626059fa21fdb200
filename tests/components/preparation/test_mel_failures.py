from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from components.preparation.mel_failures import Failures
from components.preparation.mel_folder import FAILED
from components.preparation.mel_work import Outcome
from tests.integration.command import environment


def failure(identity: str) -> Outcome:
    return Outcome(id=identity, audio=f"{identity}.wav", fault=("missing file", identity))


def listed(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / FAILED).read_text().splitlines()]


def test_two_runs_without_a_failure_end_without_a_list(tmp_path: Path) -> None:
    one, other = Failures(tmp_path, retry=False), Failures(tmp_path, retry=False)
    one.close()
    other.close()
    assert not (tmp_path / FAILED).exists()


def test_a_failure_after_the_end_of_another_run_is_kept(tmp_path: Path) -> None:
    one, other = Failures(tmp_path, retry=False), Failures(tmp_path, retry=False)
    one.close()
    other.note(failure("a"))
    other.close()
    assert listed(tmp_path) == ["a"]
    assert "a" in Failures(tmp_path, retry=False)


def test_what_one_run_mends_takes_nothing_from_another(tmp_path: Path) -> None:
    first = Failures(tmp_path, retry=False)
    first.note(failure("a"))
    first.note(failure("b"))
    first.close()
    one, other = Failures(tmp_path, retry=True), Failures(tmp_path, retry=False)
    other.note(failure("c"))
    one.note(Outcome(id="a", audio="a.wav"))
    one.close()
    other.note(failure("d"))
    other.close()
    assert listed(tmp_path) == ["b", "c", "d"]


def test_a_list_of_which_everything_succeeded_is_removed(tmp_path: Path) -> None:
    Failures(tmp_path, retry=False).note(failure("a"))
    again = Failures(tmp_path, retry=True)
    again.note(Outcome(id="a", audio="a.wav"))
    again.close()
    assert not (tmp_path / FAILED).exists()


WRITER = """
import sys
from pathlib import Path
from components.preparation.mel_failures import Failures
from components.preparation.mel_work import Outcome
for number in range(20):
    name = f"{sys.argv[2]}{number}"
    failures = Failures(Path(sys.argv[1]), retry=True)
    failures.note(Outcome(id=name, audio="", fault=("lasting", "x" * 500)))
    failures.note(Outcome(id="s" + name, audio="", fault=("passing", "x" * 500)))
    failures.close()
    again = Failures(Path(sys.argv[1]), retry=True)
    again.note(Outcome(id="s" + name, audio=""))
    again.close()
"""


def test_processes_that_write_and_mend_at_once_lose_nothing(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], env=environment())
        for name in "ab"
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert sorted(listed(tmp_path)) == sorted(f"{name}{n}" for name in "ab" for n in range(20))
