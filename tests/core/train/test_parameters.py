from __future__ import annotations

import pytest
from torch import nn

from core.train.parameters import parameter_counts, parameter_table


def test_parameters_in_4_bits_count_as_those_that_they_stand_for() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = nn.Sequential(
        bitsandbytes.nn.Linear4bit(64, 96, bias=False, quant_type="nf4"), nn.Linear(96, 2)
    )
    model[0].requires_grad_(requires_grad=False)
    before = parameter_counts(model)
    model.to("cpu")  # This quantises.
    assert model[0].weight.numel() == 64 * 96 // 2
    assert parameter_counts(model) == before == (96 * 2 + 2, 64 * 96 + 96 * 2 + 2)
    assert "6,144" in "\n".join(parameter_table(model))
