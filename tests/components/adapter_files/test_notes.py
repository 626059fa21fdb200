from __future__ import annotations

from pathlib import Path

import fiddle as fdl
import pytest

from components.adapter_files.notes import Notes, configured, described
from components.text.normalizer import TextNormalizer
from core.errors import CheckpointError


class Shout:
    """No registered component."""


def test_notes_come_back(tmp_path: Path) -> None:
    notes = Notes(language="ko", prompt_chunks=3, model={"dtype": "bf16"}, base={"config": "x"})
    notes.write(tmp_path)
    assert Notes.read(tmp_path) == notes
    assert Notes.read(tmp_path / "elsewhere") is None


def test_a_normal_form_is_made_again_with_its_table(tmp_path: Path) -> None:
    table = tmp_path / "terms.tsv"
    table.write_text("MRI\t엠알아이\n", encoding="utf-8")
    form = TextNormalizer(language="ko", kspon="phonetic", lowercase=True, replacements=table)
    kept = described(form)
    assert kept is not None
    Notes(text=kept).write(tmp_path)
    read = Notes.read(tmp_path)
    assert read is not None
    assert read.text is not None
    again = fdl.build(configured(read.text, folder=tmp_path))
    assert again.fingerprint == form.fingerprint


def test_what_is_no_component_is_not_kept() -> None:
    assert described(Shout()) is None


@pytest.mark.parametrize(
    "text",
    [
        {"component": "text/normaliser", "options": {}},
        {"component": "callback/checkpoint", "options": {}},
        {"component": "text/normalizer", "options": {"language": "fr"}},
        {"component": "text/normalizer", "options": {"volume": 11}},
        {"options": {}},
    ],
)
def test_a_form_that_cannot_be_made_is_refused(tmp_path: Path, text: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"sori\.json"):
        configured(text, folder=tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sori": 9}'])
def test_damaged_notes_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "sori.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"sori\.json"):
        Notes.read(tmp_path)
