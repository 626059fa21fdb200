from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components.speech_llm.base import load_base
from components.speech_llm.lora import LoRA
from core.errors import ConfigError

PROJECTOR = "model.multi_modal_projector"


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_base(str(tiny), dtype="float32").model


def test_the_projector_is_found_by_name(model: Any) -> None:
    found = LoRA().names(model, projector=PROJECTOR)
    assert found == [f"{PROJECTOR}.linear_1", f"{PROJECTOR}.linear_2"]
    assert LoRA(targets="linear_2").names(model, projector=PROJECTOR) == found[1:]
    both = LoRA(targets=("linear_1", f"{PROJECTOR}.linear_1")).names(model, projector=PROJECTOR)
    assert both == found[:1]


def test_the_encoder_is_never_adapted(model: Any) -> None:
    found = LoRA(targets="q_proj").names(model, projector=PROJECTOR)
    assert len(found) == 2
    assert all("language_model" in name for name in found)
    with pytest.raises(ConfigError, match=r"'fc1' is no linear layer of Voxtral\w+ outside"):
        LoRA(targets="fc1").names(model, projector=PROJECTOR)


@pytest.mark.parametrize(
    ("target", "near"), [("linear1", "linear_1"), ("multi_modal_projector", "projector")]
)
def test_a_target_that_is_no_layer_is_refused_with_the_nearest(
    model: Any, target: str, near: str
) -> None:
    with pytest.raises(ConfigError, match=f"target '{target}' is no linear layer.*{near}"):
        LoRA(targets=target).names(model, projector=PROJECTOR)


def test_a_model_without_a_projector_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has no linear layer below 'model'"):
        LoRA().names(nn.Linear(2, 2), projector="model")


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="rank must be at least 1, found 0"):
        LoRA(rank=0)
    with pytest.raises(ConfigError, match=r"dropout must be in \[0, 1\), found 1"):
        LoRA(dropout=1.0)


def test_what_is_added_is_as_published(model: Any) -> None:
    expected = model.get_submodule(PROJECTOR)
    first, second = expected.linear_1.weight.clone(), expected.linear_2.weight.clone()
    net = LoRA(rank=4, alpha=8, dropout=0.0).attach(model, projector=PROJECTOR)
    adapters = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in adapters.values()) == 4 * ((256 + 64) + (64 + 64))
    for name, parameter in adapters.items():
        torch.nn.init.normal_(parameter, std=0.1)
        assert parameter.dtype == torch.float32, name
    rows = torch.randn(5, 256)
    merged = []
    for layer, weight in (("linear_1", first), ("linear_2", second)):
        a = adapters[f"base_model.model.{PROJECTOR}.{layer}.lora_A.default.weight"]
        b = adapters[f"base_model.model.{PROJECTOR}.{layer}.lora_B.default.weight"]
        merged.append(weight + 8 / 4 * b @ a)
    wanted = nn.functional.gelu(rows @ merged[0].T) @ merged[1].T
    torch.testing.assert_close(model.get_submodule(PROJECTOR)(rows), wanted)
