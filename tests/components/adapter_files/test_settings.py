from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.adapter_files.settings import AdapterSettings, read_settings
from components.adapter_files.targets import Targets
from core.errors import CheckpointError


def test_what_peft_writes_for_plain_lora_is_read(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(
        r=4, lora_alpha=10, lora_dropout=0.1, target_modules=["linear_1"], task_type="CAUSAL_LM"
    )
    settings.save_pretrained(tmp_path)
    assert read_settings(tmp_path) == AdapterSettings(
        rank=4, alpha=10.0, dropout=0.1, base=None, targets=Targets(modules=("linear_1",))
    )


@pytest.mark.parametrize(
    "option",
    [
        {"use_rslora": True},
        {"rank_pattern": {"linear_1": 2}},
        {"target_parameters": ["weight"]},
        {"an_option_of_the_future": "on"},
    ],
)
def test_every_option_that_is_not_known_to_be_harmless_is_refused(
    tmp_path: Path, option: dict[str, object]
) -> None:
    content = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, **option}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=next(iter(option))):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"peft_type": "LORA", "r": 0, "lora_alpha": 1}',
        '{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": "("}',
        '{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": [2]}',
        '{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "layers_to_transform": "all"}',
    ],
)
def test_damaged_settings_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        read_settings(tmp_path)
