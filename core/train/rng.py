"""Random state of a process: seeding, saving, restoring, and setting aside."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch; ranks get different streams."""
    mixed = np.random.SeedSequence([seed, rank]).generate_state(1, dtype=np.uint32)
    value = int(mixed[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def rng_state() -> dict[str, Any]:
    """Return the state of every generator as tensors and plain values.

    Plain, because checkpoints are read with ``weights_only=True``, which refuses NumPy arrays.
    """
    version, internal, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": {
            "key": [int(word) for word in numpy_state["state"]["key"]],
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def load_rng_state(state: Mapping[str, Any]) -> None:
    """Take back what :func:`rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    words = state["numpy"]
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": np.asarray(words["key"], dtype=np.uint32), "pos": words["pos"]},
            "has_gauss": words["has_gauss"],
            "gauss": words["gauss"],
        }
    )
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def rng_set_aside(seed: int) -> Iterator[None]:
    """Run a block from its own seed and leave the training streams where they were."""
    saved = rng_state()
    seed_everything(seed)
    try:
        yield
    finally:
        load_rng_state(saved)
