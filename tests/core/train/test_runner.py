from __future__ import annotations

import pytest

from core.errors import ConfigError
from core.train.runner import RunOptions


def test_a_run_starts_from_one_thing_which_its_name_tells() -> None:
    assert RunOptions().origin is None
    origins = {RunOptions(init_from="runs/a").origin, RunOptions(branch_from="runs/a").origin}
    assert len(origins) == 2
    with pytest.raises(ConfigError, match="weights alone and --branch-from everything"):
        RunOptions(init_from="runs/a", branch_from="runs/a")
