from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from core import environment
from core.environment import describe_environment


def test_it_describes_this_process_in_json() -> None:
    found = describe_environment()

    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["packages"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert "not-installed" not in found["packages"]
    json.dumps(found)


def test_the_revision_is_that_of_the_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    assert environment._git(tmp_path) == {"revision": git("rev-parse", "HEAD"), "dirty": False}

    (tmp_path / "file").write_text("two")
    found = environment._git(tmp_path)
    assert found is not None
    assert found["dirty"]


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment._git(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert describe_environment()["git"] is None
