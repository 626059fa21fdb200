from __future__ import annotations

from pathlib import Path

from tests.core.catalog.packs import only, scan


def test_dataclass_with_inherited_fields(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            base='''
            from dataclasses import dataclass, field
            from typing import ClassVar

            @dataclass(kw_only=True)
            class Base:
                """A base.

                Args:
                    rate: of the base.
                    size: of the base.
                """
                version: ClassVar[int] = 1
                rate: float
                size: int = 1
                hidden: int = field(default=0, init=False)
            ''',
            child='''
            import dataclasses
            from .base import Base

            @register("scheduler", "child")
            @dataclasses.dataclass(kw_only=True)
            class Child(Base):
                """A child.

                Args:
                    size: of the child.
                """
                size: int = 2
                names: list[str] = dataclasses.field(default_factory=list)
                """Under the field."""
            ''',
        )
    )
    assert entry.signature == "(*, rate: float, size: int = 2, names: list[str] = list())"
    assert [p.doc for p in entry.parameters] == [
        "of the base.",
        "of the child.",
        "Under the field.",
    ]
