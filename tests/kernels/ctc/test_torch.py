"""The torch engine, pass by pass, as the protocol promises them."""

from __future__ import annotations

import pytest
import torch

from kernels.ctc.engine import Terms
from kernels.ctc.torch import ENGINE

COLUMNS = torch.tensor([[0, 3, 3, 5], [0, 1, 0, 0]])
UTTERANCES = torch.tensor([0, 0, 0, 1, 1, 1])


def logits(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(6, 7, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_rows(dtype: torch.dtype, in_place: bool, penalty: float) -> None:
    given = logits(dtype)
    shifted = given.to(torch.float64, copy=True)
    shifted[:, 0] -= penalty
    out = given if in_place else torch.full_like(given, torch.nan)
    wide = torch.promote_types(dtype, torch.float32)
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0, -1.0, 3.0], dtype=wide)
    terms = Terms(blank_penalty=penalty)
    expected = shifted.softmax(dim=1) * weights.double().unsqueeze(1)
    expected.scatter_(1, COLUMNS[UTTERANCES], 0.0)
    untouched = given.clone()
    alone = ENGINE.rows(given, COLUMNS, UTTERANCES, None, terms, out=None)
    assert torch.equal(given, untouched)
    found = ENGINE.rows(given, COLUMNS, UTTERANCES, weights, terms, out=out)
    if not in_place:
        assert torch.equal(given, untouched)
    emissions = shifted.log_softmax(dim=1).gather(1, COLUMNS[UTTERANCES])
    for statistics in (alone, found):
        assert statistics.emissions.dtype == wide
        torch.testing.assert_close(statistics.emissions.double(), emissions, rtol=1e-5, atol=1e-5)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=1e-6)
    assert not out.gather(1, COLUMNS[UTTERANCES]).any()


@pytest.mark.parametrize("terms", [Terms(), Terms(entropy_bonus=0.2, consistency=0.3)])
def test_a_weight_of_0_beats_what_is_not_finite(terms: Terms) -> None:
    given = logits()
    given[[1, 4]] = torch.nan
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    ENGINE.rows(given, COLUMNS, UTTERANCES, weights, terms, out=given)
    assert not given[[1, 4]].any()
    assert given.isfinite().all()


def test_a_weight_of_nan_spreads() -> None:
    given = logits()
    weights = torch.tensor([1.0, torch.nan, 1.0, 1.0, 1.0, 1.0])
    ENGINE.rows(given, COLUMNS, UTTERANCES, weights, Terms(), out=given)
    assert given[1, [1, 2, 4, 6]].isnan().all()
    assert given[[0, 2, 3, 4, 5]].isfinite().all()


def test_statistics_of_other_terms_need_no_gradient() -> None:
    given = logits()
    terms = Terms(label_smoothing=0.1, entropy_bonus=0.2, consistency=0.3)
    untouched = given.clone()
    alone = ENGINE.rows(given, COLUMNS, UTTERANCES, None, terms, out=None)
    assert torch.equal(given, untouched)
    both = ENGINE.rows(given, COLUMNS, UTTERANCES, torch.ones(6), terms, out=given)
    for one, other in zip(alone, both, strict=True):
        assert one.shape[0] == 6
        assert torch.equal(one, other)


def test_adding_columns() -> None:
    grad = torch.ones(6, 7)
    values = torch.arange(24.0).view(6, 4)
    values[:, 2] = 0.0
    values[3:, 2:] = 0.0
    grad.scatter_(1, COLUMNS[UTTERANCES], 0.0)
    ENGINE.add_columns(grad, COLUMNS, UTTERANCES, values)
    assert grad[0].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0]
    assert grad[4].tolist() == [16.0, 17.0, 1.0, 1.0, 1.0, 1.0, 1.0]
