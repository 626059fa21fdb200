from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import CheckpointError, ConfigError
from core.inference import load_task
from core.model_folder import find_model_folder


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("adapter_config.json", {"peft_type": "LORA"}, "PeftWeights"),
        ("config.json", {"model_type": "voxtral"}, "MergedWeights"),
        ("config.json", {"model_type": "bert"}, None),
        ("notes.json", {}, None),
    ],
)
def test_a_folder_is_known_by_its_settings(
    tmp_path: Path, name: str, content: dict[str, str], expected: str | None
) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    found = find_model_folder(tmp_path)
    assert (type(found).__name__ if found else None) == expected


def test_runs_and_checkpoints_are_no_model_folders(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "step_00000001").mkdir()
    assert find_model_folder(tmp_path) is None
    assert find_model_folder(tmp_path / "gone") is None


def test_a_base_is_for_folders_of_weights(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match=r"--set task\.model\.base="):
        load_task(tmp_path, base="elsewhere")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_task(tmp_path)
