from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.adapter_files.measure import measure
from components.adapter_files.merge import deltas, merge
from tests.components.adapter_files.conftest import Make

SECOND = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="has no CUDA device"),
    ),
]


@pytest.mark.parametrize("device", SECOND)
def test_both_models_compute_where_the_first_one_is(
    make: Make, base: Path, tmp_path: Path, device: str
) -> None:
    task = make(trained=True).to(device)
    merge(base, deltas(task.model), into=tmp_path)
    found = measure(task.model, tmp_path, language="ko")
    assert 0 < found.largest < 1e-3 * found.effect
    assert found.agreeing == found.positions > 0


def test_features_are_drawn_on_the_cpu_and_go_where_the_weights_are(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make().model.to("meta")  # A device of its own kind that every machine has.
    given: list[str] = []

    def encode(features: Tensor, **_: object) -> Tensor:
        given.append(features.device.type)
        raise InterruptedError

    monkeypatch.setattr(model, "encode", encode)
    with pytest.raises(InterruptedError):
        measure(model, tmp_path, language=None)
    assert given == ["meta"]
