from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.preparation.own_inputs import refuse_own_inputs
from core.errors import DataError


def test_a_file_is_the_same_under_every_name(tmp_path: Path) -> None:
    source, other = tmp_path / "a", tmp_path / "b"
    source.write_text("x")
    other.write_text("x")
    refuse_own_inputs([other, tmp_path / "new"], [source, tmp_path / "gone"])
    os.link(source, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source)
    for name in ("a", "hard", "soft", "../" + tmp_path.name + "/a"):
        with pytest.raises(DataError, match="is what is read"):
            refuse_own_inputs([other, tmp_path / name], [source])
