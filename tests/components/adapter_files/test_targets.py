from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from components.adapter_files.targets import Targets, require_whole
from core.errors import CheckpointError

PROJECTOR = [f"model.multi_modal_projector.linear_{number}" for number in (1, 2)]
LAYERS = [
    f"model.language_model.layers.{layer}.self_attn.{name}"
    for layer in (0, 1, 12)
    for name in ("q_proj", "v_proj")
]
NAMES = [*PROJECTOR, *LAYERS, "model.audio_tower.layers.1.self_attn.q_proj", "lm_head"]


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["linear_1"]},
        {"target_modules": ["proj", "multi_modal_projector.linear_2"]},
        {"target_modules": r".*linear_[12]"},
        {"target_modules": "linear_1"},
        {"target_modules": ["q_proj"], "exclude_modules": r".*audio_tower.*"},
        {"target_modules": r".*\.v_proj", "exclude_modules": [LAYERS[1]]},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 1},
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 12], "layers_pattern": "layers"},
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": ["blocks"]},
        {"target_modules": [LAYERS[0], "v_proj"], "layers_to_transform": [12]},
    ],
)
def test_layers_are_those_that_peft_adapts(settings: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft")
    from peft.tuners.tuners_utils import check_target_module_exists

    config = peft.LoraConfig(**settings)
    expected = [bool(check_target_module_exists(config, name)) for name in NAMES]
    targets = Targets.read(settings)
    assert [targets.adapt(name) for name in NAMES] == expected


def test_names_of_transformers_4_mean_todays_layers() -> None:
    old = Targets(modules=("multi_modal_projector.linear_1", "language_model.lm_head"))
    assert [name for name in NAMES if old.adapt(name)] == [PROJECTOR[0], "lm_head"]
    whole = Targets(modules=r"multi_modal_projector\.linear_\d")
    assert [name for name in NAMES if whole.adapt(name)] == PROJECTOR


def base() -> nn.Module:
    model = nn.ModuleDict({"projector": nn.ModuleDict(), "lm_head": nn.Linear(2, 2)})
    model["projector"].update({name: nn.Linear(2, 2) for name in ("linear_1", "linear_2")})
    return model


@pytest.mark.parametrize(
    "modules", [("linear_1", "linear_2"), r"projector\.linear_[12]", "all-linear"]
)
def test_a_layer_without_tensors_is_named(modules: str | tuple[str, ...]) -> None:
    both = ["projector.linear_1", "projector.linear_2"]
    require_whole(Targets(modules=modules), both, base(), source="here")
    with pytest.raises(CheckpointError, match=r"here .*no tensors for projector\.linear_2$"):
        require_whole(Targets(modules=modules), both[:1], base(), source="here")


def test_what_settings_do_not_name_and_what_they_name_in_vain() -> None:
    targets = Targets(modules=("linear_1", "linear_9"))
    with pytest.raises(CheckpointError) as caught:
        require_whole(targets, ["projector.linear_1", "lm_head"], base(), source="here")
    assert "tensors for lm_head, which target_modules does not name" in str(caught.value)
    assert "target_modules names linear_9, which is no layer of the base" in str(caught.value)
