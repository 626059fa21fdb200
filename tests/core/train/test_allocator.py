"""Freed memory is kept, unless the user tuned the allocator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RESIDENT_AFTER_FREE = """
import resource, torch
from pathlib import Path
from core.train.allocator import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

kept = keep_freed_memory()
before = resident()
block = torch.ones(64 * 2**20, dtype=torch.float32)
del block
print(kept, resident() - before)
"""


def mib_after_free(**environment: str) -> tuple[str, float]:
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    result = subprocess.run(
        [sys.executable, "-c", RESIDENT_AFTER_FREE],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, mib = result.stdout.split()
    return kept, float(mib)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_freed_block_stays_resident() -> None:
    kept, mib = mib_after_free()
    if kept == "False":
        pytest.skip("the C library has no mallopt")
    assert mib > 250  # of 256


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_users_own_setting_is_left_alone() -> None:
    kept, mib = mib_after_free(MALLOC_ARENA_MAX="4")
    assert kept == "False"
    assert mib < 50
