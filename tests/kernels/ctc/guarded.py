"""Poisoned scratch between guard zones, for kernels that get addresses and no sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

GUARD = 64
PATTERN = 77


class Guard:
    """Puts what a launch allocates between zones that it must not write.

    Memory that is not initialised is NaN, or garbage in integers, so that reading it shows.
    """

    def __init__(self) -> None:
        self._zones: list[Tensor] = []

    def __call__(self, like: Tensor, shape: tuple[int, ...], value: float) -> Tensor:
        count = int(torch.Size(shape).numel())
        room = torch.full((count + 2 * GUARD,), PATTERN, dtype=like.dtype, device=like.device)
        room[GUARD : GUARD + count] = value
        self._zones += [room[:GUARD], room[GUARD + count :]]
        return room[GUARD : GUARD + count].view(shape)

    def check(self) -> None:
        assert self._zones
        for zone in self._zones:
            assert bool((zone == PATTERN).all())


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    """Guard ``new_empty`` and ``zeros_like``; :meth:`Guard.check` at the end."""
    zones = Guard()
    plain = Tensor.new_empty

    def new_empty(self: Tensor, size: Any, dtype: torch.dtype | None = None, **rest: Any) -> Tensor:
        if rest:  # not ours
            return plain(self, size, dtype=dtype, **rest)
        like = self.new_zeros(0, dtype=dtype)
        shape = (size,) if isinstance(size, int) else tuple(size)
        return zones(like, shape, float("nan") if like.is_floating_point() else 123456)

    def zeros_like(tensor: Tensor) -> Tensor:
        return zones(tensor, tuple(tensor.shape), 0.0)

    monkeypatch.setattr(Tensor, "new_empty", new_empty)
    monkeypatch.setattr(torch, "zeros_like", zeros_like)
    return zones
