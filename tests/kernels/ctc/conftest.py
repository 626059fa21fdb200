"""The backends that the tests of the CTC ops go through."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from kernels.dispatch import BACKENDS, interpreting, obstacle


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Each backend that runs here, with the interpreter for triton where there is no GPU."""
    name = str(request.param)
    return _runnable(name, device)


@pytest.fixture(params=[name for name in BACKENDS if name != "reference"])
def engine_backend(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Each backend behind the opaque ops."""
    return _runnable(str(request.param), device)


@pytest.fixture
def quick_backend(backend: str) -> str:
    """Each backend but the interpreter: for what the drivers do alike with every engine."""
    return _without_interpreter(backend)


@pytest.fixture
def fast_backend(engine_backend: str) -> str:
    """Each backend behind the opaque ops but the interpreter."""
    return _without_interpreter(engine_backend)


def _without_interpreter(name: str) -> str:
    if name == "triton" and interpreting():
        pytest.skip("takes the interpreter minutes")
    return name


def _runnable(name: str, device: torch.device) -> str:
    if name == "triton" and importlib.util.find_spec("kernels.ctc.triton") is None:
        pytest.skip("no Triton engine")
    reason = obstacle(name, device)
    if reason:
        pytest.skip(reason)
    return name
