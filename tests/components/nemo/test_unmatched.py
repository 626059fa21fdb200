from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from components.nemo.settings import settings_of
from components.nemo.unmatched import unmatched
from tests.components.nemo.models import make_task


class Loudness(nn.Module):
    """Features that NeMo does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weighting", torch.ones(257))


def told(task: nn.Module) -> list[str]:
    return [line.partition(":")[0] for line in unmatched(task, settings_of(task))]


def test_the_defaults_are_all_nemos() -> None:
    assert told(make_task()) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "line"),
    [
        ("features", "edges", "reflect", "task.features.edges=reflect"),
        ("quantizer", "input_norm", "layer_norm", "task.quantizer.input_norm=layer_norm"),
        ("masking", "hide_all", True, "task.masking.hide_all=true"),
    ],
)
def test_each_setting_is_told(part: str, name: str, value: Any, line: str) -> None:
    task = make_task()
    setattr(getattr(task, part), name, value)
    assert told(task) == [line]


def test_settings_of_the_encoder() -> None:
    assert told(make_task(mask_subsampling=False)) == ["task.encoder.mask_subsampling=false"]
    task = make_task(causal_subsampling=True)
    assert told(task) == ["task.encoder.causal_subsampling=true"]
    del task.quantizer
    assert told(task) == []


def test_features_of_another_kind_are_told() -> None:
    task = make_task()
    task.features = Loudness()
    assert told(task) == ["task.features is a Loudness, which NeMo does not have"]
