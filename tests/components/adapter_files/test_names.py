from __future__ import annotations

import pytest
import torch

from components.adapter_files.names import before, modules, peft_today, renamed, today
from core.errors import CheckpointError


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("language_model.model.norm.weight", "model.language_model.norm.weight"),
        ("language_model.norm.weight", "model.language_model.norm.weight"),
        ("audio_tower.conv1.bias", "model.audio_tower.conv1.bias"),
        ("multi_modal_projector.linear_1", "model.multi_modal_projector.linear_1"),
        ("multi_modal_projector_2.linear_1", "multi_modal_projector_2.linear_1"),
    ],
)
def test_names_of_transformers_4_become_those_of_today_which_stay(old: str, new: str) -> None:
    assert today(old) == new
    assert today(before(new)) == new
    assert today(new) == new


def test_the_table_is_that_of_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers import VoxtralForConditionalGeneration
    from transformers.core_model_loading import revert_weight_conversion

    from components.speech_llm.tiny import tiny_config

    model = VoxtralForConditionalGeneration(tiny_config(hidden=32, layers=1))
    current = model.state_dict()
    stored = revert_weight_conversion(model, dict(current))
    assert set(stored) != set(current)
    assert {today(name) for name in stored} == set(current)


def test_keys_of_an_adapter_are_mapped_behind_pefts_prefix() -> None:
    old = "base_model.model.multi_modal_projector.linear_1.lora_A.default.weight"
    new = "base_model.model.model.multi_modal_projector.linear_1.lora_A.weight"
    assert peft_today(old) == new
    assert modules([new, new.replace("_A", "_B")]) == ["model.multi_modal_projector.linear_1"]
    found, lines = renamed({old: torch.ones(1)}, source="here")
    assert list(found) == [new]
    assert lines == [f"1 names are those of older libraries: {old} is now {new}"]
    with pytest.raises(CheckpointError, match=r"here: .* name the same tensor"):
        renamed({old: 1, new: 2}, source="here")
