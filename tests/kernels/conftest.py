"""Run the Triton kernels on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch

# Triton reads the variable when it decorates a kernel: it must stand before any is imported.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device on which all backends can run here."""
    interpreted = os.environ["TRITON_INTERPRET"] == "1"
    return torch.device("cpu" if interpreted else "cuda")
