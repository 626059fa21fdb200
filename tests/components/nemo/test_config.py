from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.nemo import config
from components.nemo.config import read_config
from core.errors import CheckpointError


def read(folder: Path, text: str) -> dict[str, object]:
    file = folder / "model_config.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(file, label="m.nemo: model_config.yaml")


def nested(levels: int, *, width: int = 8) -> str:
    """Return YAML that stands for ``width ** levels`` values, each level an alias of the last."""
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels + 1):
        aliases = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines)


def test_settings_and_moderate_aliases_are_read(tmp_path: Path) -> None:
    text = "sizes: &s {d: 8, k: [1, null, true, 0.5]}\nencoder: *s\nother: {<<: *s, d: 9}\n"
    found = read(tmp_path, text)
    assert found == yaml.safe_load(text)
    assert found["other"] == {"d": 9, "k": [1, None, True, 0.5]}


@pytest.mark.parametrize("levels", [7, 40])
def test_aliases_that_multiply_are_refused(levels: int, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"aliases stand for more than 100,000 nodes"):
        read(tmp_path, nested(levels))


def test_merged_sections_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 12):
        merged = ", ".join([f"*a{level - 1}"] * 8)
        lines.append(f"a{level}: &a{level} {{<<: [{merged}]}}")
    with pytest.raises(CheckpointError, match="aliases stand for more than"):
        read(tmp_path, "\n".join(lines))


def test_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "MOST_NODES", 1000)
    assert read(tmp_path, f"x: [{','.join('a' * 997)}]")
    with pytest.raises(CheckpointError, match="has more than 1,000 nodes"):
        read(tmp_path, f"x: [{','.join('a' * 998)}]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: &x [*x]", "a section is part of itself"),
        ("x: " + "[" * 5000, "is not plain YAML"),
        ("x: " + ":".join(["59"] * 50), "of type int has 149 characters; at most 64 are read"),
        ("x: 0x" + "f" * 5000, "of type int has 5,002 characters"),
        ('x: !!int ""', "is not plain YAML"),
        ("x: !!bool perhaps", "is not plain YAML"),
        ("x: !!timestamp today", "is not plain YAML"),
        ("x: 2024-99-99", "is not plain YAML"),
        ("x: !!python/object/apply:os.getcwd []", "is not plain YAML"),
        ("x: 1\n--- \ny: 2", "is not plain YAML"),
        ("- 1", "holds a list; expected settings"),
        ("", "holds a NoneType; expected settings"),
    ],
)
def test_what_is_no_configuration_says_so_in_one_short_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("m.nemo: model_config.yaml")
    assert len(str(caught.value)) < 400
