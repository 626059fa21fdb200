from __future__ import annotations

import pytest
import torch

from components.probes.geometry import geometry


def test_rank_of_known_shapes() -> None:
    generator = torch.Generator().manual_seed(0)
    ball = torch.randn(20_000, 6, generator=generator)
    assert geometry(ball).effective_rank == pytest.approx(6.0, abs=0.01)
    line = ball[:, :1] @ torch.ones(1, 6) + 9.0
    assert geometry(line).effective_rank == pytest.approx(1.0, abs=1e-3)
    plane = torch.cat([ball[:, :2], torch.zeros(20_000, 4)], dim=1)
    assert geometry(plane).effective_rank == pytest.approx(2.0, abs=0.01)


def test_a_collapsed_representation_is_told() -> None:
    found = geometry(torch.full((100, 4), 3.0))
    assert (found.norm, found.norm_deviation, found.spread) == (6.0, 0.0, 0.0)
    assert found.effective_rank == 0.0


def test_norm_and_spread() -> None:
    found = geometry(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    assert found.norm == 5.0
    assert found.spread == 5.0
    assert found.as_dict()["dimensions"] == 2
