from __future__ import annotations

import pytest
import torch

from components.encoders.conformer_block import drop_layer


def test_dropped_utterances_pass_by_and_the_mean_is_kept() -> None:
    torch.manual_seed(0)
    entered = torch.zeros(4000, 2, 3)
    left = torch.ones(4000, 2, 3)
    result = drop_layer(entered, left, 0.25)
    rows = result.flatten(1)
    assert torch.equal(rows.min(dim=1).values, rows.max(dim=1).values)  # whole utterances
    assert rows[:, 0].unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert result.mean().item() == pytest.approx(1.0, abs=0.03)
