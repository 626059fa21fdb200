from __future__ import annotations

from pathlib import Path

import pytest

from components.tokenizers.storage import read, write
from core.errors import CheckpointError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "new", "toy", {"symbols": ["가"], "lowercase": True})
    assert read(tmp_path / "new", "toy", lowercase=True)["symbols"] == ["가"]


def test_a_setting_that_the_file_lacks_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "toy", {})
    with pytest.raises(CheckpointError, match="lowercase None; this one is configured with True"):
        read(tmp_path, "toy", lowercase=True)
