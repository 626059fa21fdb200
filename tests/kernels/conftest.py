"""The device that the kernels' tests share."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device on which all backends can run here."""
    interpreted = os.environ["TRITON_INTERPRET"] == "1"
    return torch.device("cpu" if interpreted else "cuda")
