from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kernels.masked_ce import library
from kernels.masked_ce.rows import Rows, rows_of_device_mask, rows_of_host_mask, select_rows
from tests.kernels.masked_ce.examples import BACKENDS, REDUCTIONS, example

CPU = torch.device("cpu")
MASK = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1], dtype=torch.bool)


def test_the_host_knows_the_masked_frames() -> None:
    rows = rows_of_host_mask(MASK, CPU, None)
    assert rows.index is not None
    assert rows.index.tolist() == [1, 2, 5, 7]
    assert rows.masked is rows.overflow is None
    assert int(rows.count) == 4


def test_a_bound_puts_masked_frames_first_and_repeats_none() -> None:
    rows = rows_of_device_mask(MASK, 6)
    assert rows.index is not None
    assert rows.masked is not None
    assert rows.index.tolist() == [1, 2, 5, 7, 0, 3]
    assert rows.masked.tolist() == [True] * 4 + [False] * 2
    assert not rows.overflow


@pytest.mark.parametrize("choose", [rows_of_device_mask, lambda m, n: rows_of_host_mask(m, CPU, n)])
def test_frames_beyond_the_bound_are_an_overflow(choose: object) -> None:
    rows = choose(MASK, 3)  # type: ignore[operator]
    assert len(rows) == 3
    assert bool(rows.overflow)
    assert int(rows.count) == 4
    assert rows.refuse(torch.zeros(2)).isnan().all()


def test_without_a_bound_all_frames_are_rows() -> None:
    for bound in (None, 8, 100):
        rows = rows_of_device_mask(MASK, bound)
        assert rows.index is rows.overflow is None
        assert rows.masked is MASK
        assert len(rows) == 8


@pytest.mark.parametrize("bound", [None, 5])
def test_rows_come_back_to_their_places(bound: int | None) -> None:
    frames = torch.arange(1.0, 9.0)
    for rows in (rows_of_device_mask(MASK, bound), rows_of_host_mask(MASK, CPU, bound)):
        chosen = rows.blank(rows.select(frames))
        assert torch.equal(rows.spread(chosen, 8), frames * MASK)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("bound", [None, 13, 16])
def test_rows_that_are_not_masked_change_nothing(
    backend: str,
    reduction: str,
    bound: int | None,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What CUDA does with a mask on the device, here on the device that there is."""
    given = example(device)
    assert int(given.mask.sum()) == 13
    hidden = given.hidden.masked_fill(~given.mask[..., None], torch.nan)
    given = replace(given, hidden=hidden).leaves()
    exact = given.loss(reduction=reduction, backend=backend)
    gradients = given.gradients(exact.loss)

    def as_on_a_device(mask: torch.Tensor, _: torch.device, max_masked: int | None) -> Rows:
        return rows_of_device_mask(mask.reshape(-1), max_masked)

    monkeypatch.setattr(library, "select_rows", as_on_a_device)
    found = given.loss(reduction=reduction, backend=backend, max_masked=bound, validate=False)
    for one, other in zip(found, exact, strict=True):
        assert torch.allclose(one, other, rtol=1e-6)
    for one, other in zip(given.gradients(found.loss), gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    if bound is not None:
        short = given.loss(reduction=reduction, backend=backend, max_masked=12, validate=False)
        assert short.loss.isnan().any()
        assert all(gradient.isnan().any() for gradient in given.gradients(short.loss))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_mask_on_the_host_selects_on_the_device() -> None:
    rows = select_rows(MASK[None], torch.device("cuda"), None)
    assert rows.index is not None
    assert rows.index.is_cuda
    assert rows.index.tolist() == [1, 2, 5, 7]
