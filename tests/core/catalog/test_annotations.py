from __future__ import annotations

from pathlib import Path

from tests.core.catalog.packs import only, scan


def test_named_choices_are_written_out(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            norms="""
            from typing import Literal
            Norm = Literal["batch", "layer"]
            """,
            thing="""
            from pack.norms import Norm
            @register("encoder", "thing")
            class Thing:
                def __init__(self, *, norm: Norm | None = None, other: Other = 1) -> None: ...
            """,
        )
    )
    assert entry.signature == (
        "(*, norm: Literal['batch', 'layer'] | None = None, other: Other = 1)"
    )
