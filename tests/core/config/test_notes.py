from __future__ import annotations

from core.config.notes import collected, note


def test_notes_are_collected_inside_the_block_alone() -> None:
    note("heard by nobody")
    with collected() as outer:
        note("first")
        with collected() as inner:
            note("second")
        note("third")
    note("heard by nobody")
    assert outer == ["first", "third"]
    assert inner == ["second"]
