from __future__ import annotations

import io
import random

import numpy as np
import torch

from core.train.rng import load_rng_state, rng_set_aside, rng_state, seed_everything


def draws() -> tuple[float, float, float, float]:
    return random.gauss(0, 1), float(np.random.randn()), float(torch.rand(())), random.random()


def test_state_survives_a_weights_only_file() -> None:
    seed_everything(3, rank=1)
    draws()
    buffer = io.BytesIO()
    torch.save(rng_state(), buffer)
    expected = [draws() for _ in range(3)]
    buffer.seek(0)
    load_rng_state(torch.load(buffer, weights_only=True))
    assert [draws() for _ in range(3)] == expected


def test_ranks_draw_different_numbers() -> None:
    seed_everything(3, rank=0)
    first = draws()
    seed_everything(3, rank=1)
    assert draws() != first


def test_setting_aside_leaves_training_streams_alone() -> None:
    seed_everything(5)
    expected = [draws() for _ in range(2)]
    seed_everything(5)
    found = [draws()]
    with rng_set_aside(9):
        inside = draws()
    with rng_set_aside(9):
        assert draws() == inside
    found.append(draws())
    assert found == expected
