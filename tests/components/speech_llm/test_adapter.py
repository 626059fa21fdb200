from __future__ import annotations

import pytest
import torch

from core.errors import CheckpointError
from tests.components.speech_llm.conftest import Maker


def test_weights_of_another_rank_or_layer_are_listed_and_none_is_taken(make: Maker) -> None:
    model = make()
    before = {name: value.clone() for name, value in model.adapter_state().items()}
    state = dict(before)
    first, second, *_ = sorted(state)
    state[first] = torch.zeros(3, 3)
    state["base_model.model.somewhere.lora_A.weight"] = state.pop(second)
    with pytest.raises(CheckpointError, match="does not fit the base and its LoRA") as refusal:
        model.load_adapter_state(state)
    message = str(refusal.value)
    assert "[3, 3] in file" in message
    assert "not in file " in message
    assert "somewhere" in message
    for name, value in model.adapter_state().items():
        assert torch.equal(value, before[name])


def test_names_of_transformers_4_are_not_taken_for_nothing(make: Maker) -> None:
    model = make()
    old = {
        name.replace("base_model.model.model.", "base_model.model."): value
        for name, value in model.adapter_state().items()
    }
    with pytest.raises(CheckpointError, match="not in model"):
        model.load_adapter_state(old)
