from __future__ import annotations

import numpy as np
import pytest
import torch

from components.models import conditioner
from components.models.conditioner import Conditioner, PositionTable
from components.models.perceiver import PerceiverResampler
from core.errors import DataError
from tests.components.models import oracle


def make_conditioner(features: int = 9, layers: int = 2) -> Conditioner:
    torch.manual_seed(1)
    made = Conditioner(
        features=features, dim=12, layers=layers, heads=3, feed_forward_dim=20, kernel_size=5
    )
    return randomised(made)


def make_resampler(context: int = 12, dim: int = 8) -> PerceiverResampler:
    torch.manual_seed(2)
    made = PerceiverResampler(
        dim=dim, context_dim=context, latents=3, layers=2, heads=2, head_dim=6, expansion=2
    )
    return randomised(made)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return module.double()


@pytest.mark.parametrize(("frames", "bins"), [(14, 9), (15, 10), (3, 3), (4, 9)])
def test_it_equals_loops(frames: int, bins: int) -> None:
    module = make_conditioner(bins)
    x = torch.randn(1, frames, bins, dtype=torch.float64)
    got, valid = module(x, torch.tensor([frames]))
    assert valid.tolist() == [[True] * ((frames - 1) // 2)]
    expected = oracle.conditioner(x[0].numpy(), oracle.weights_of(module), layers=2)
    np.testing.assert_allclose(got[0].detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("context", "dim"), [(12, 8), (8, 8)])
def test_the_resampler_equals_loops(context: int, dim: int) -> None:
    module = make_resampler(context, dim)
    assert ("proj_context.weight" in module.state_dict()) == (context != dim)
    x = torch.randn(2, 5, context, dtype=torch.float64)
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    got = module(x, valid).detach().numpy()
    for row, frames in enumerate((5, 2)):
        own = x[row, :frames].numpy()
        expected = oracle.resampler(own, oracle.weights_of(module), layers=2, heads=2)
        np.testing.assert_allclose(got[row], expected, atol=1e-10)


def test_frames_are_real_where_all_that_is_behind_them_is() -> None:
    module = make_conditioner(layers=1)
    lengths = torch.arange(9)
    _, valid = module(torch.randn(9, 8, 9, dtype=torch.float64), lengths)
    # The published mask takes every second frame of the input's from the third on.
    expected = (torch.arange(8) < lengths.unsqueeze(1))[:, 2::2]
    assert valid.tolist() == expected.tolist()
    assert valid.sum(1).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_inputs_too_short_for_a_frame_are_finite(frames: int) -> None:
    module, resampler = make_conditioner(), make_resampler()
    x, valid = module(torch.randn(2, frames, 9, dtype=torch.float64), torch.tensor([frames, 0]))
    assert valid.tolist() == [[False], [False]]
    latents = resampler(x, valid)
    assert latents.isfinite().all()
    torch.testing.assert_close(latents[0], latents[1])
    latents.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_what_lies_past_a_length_is_not_looked_at() -> None:
    module = make_conditioner()
    x = torch.randn(1, 30, 9, dtype=torch.float64)
    lengths = torch.tensor([11])
    clean, valid = module(x.index_fill(1, torch.arange(11, 30), 0.0), lengths)
    broken, _ = module(x.index_fill(1, torch.arange(11, 30), torch.nan), lengths)
    torch.testing.assert_close(broken[valid], clean[valid], rtol=0, atol=0)
    alone, _ = module(x[:, :11], lengths)
    torch.testing.assert_close(clean[:, : alone.shape[1]], alone)


def test_the_table_is_that_of_the_published_code() -> None:
    table = PositionTable(dim=6)
    assert table.pe.shape == (1, 5000, 6)
    expected = [[oracle.sinusoid(p, c, 6) for c in range(6)] for p in (0, 1, 37)]
    np.testing.assert_allclose(table.pe[0, [0, 1, 37]].numpy(), expected, atol=1e-5)


def test_prompts_beyond_the_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditioner, "LONGEST", 4)
    module = make_conditioner()
    module(torch.zeros(1, 10, 9, dtype=torch.float64), torch.tensor([10]))
    with pytest.raises(DataError, match="5 frames long after subsampling; there are positions"):
        module(torch.zeros(1, 11, 9, dtype=torch.float64), torch.tensor([11]))
