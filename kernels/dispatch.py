"""Which backends an op has, which of them can run here, and which one ``auto`` takes.

Every op has three: ``reference`` follows the equations in float64 and exists for tests; ``torch``
is chunked, needs nothing but torch and runs on any device; ``triton`` has fused kernels for CUDA.
Triton's interpreter runs the same kernels on CPU tensors, slowly, if ``TRITON_INTERPRET=1`` is set
before they are imported.
"""

from __future__ import annotations

import functools
import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Literal, get_args

import torch

from kernels.errors import BackendError

Backend = Literal["auto", "reference", "torch", "triton"]
BACKENDS: Final[tuple[str, ...]] = ("reference", "torch", "triton")
OPS: Final[dict[str, str]] = {
    "ctc_loss": "CTC of logits or log-probabilities (B, T, V)",
    "linear_ctc_loss": "output projection, softmax and CTC; never holds (B, T, V)",
    "masked_cross_entropy": "masked-token prediction over C codebooks, masked frames only",
    "random_projection_targets": "nearest code of a random projection, without a distance matrix",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The backend that runs, and why it is that one."""

    backend: str
    reason: str

    def __str__(self) -> str:
        return f"{self.backend} ({self.reason})"


def choose(op: str, backend: str, device: torch.device, *, unsupported: str = "") -> Choice:
    """Return the backend that ``backend`` means for tensors on ``device``.

    ``auto`` takes triton on CUDA where it can run and supports the arguments, else torch.

    Args:
        op: name of the op, for messages.
        backend: what the user asked for.
        device: of the op's tensors.
        unsupported: why triton cannot take these arguments; empty if it can.

    Raises:
        BackendError: no such backend, or it cannot run here.
    """
    if backend not in get_args(Backend):
        expected = ", ".join(get_args(Backend))
        raise BackendError(f"{op}: no backend {backend!r}; expected one of {expected}")
    found = obstacle("triton", device) or unsupported
    if backend == "auto":
        if device.type != "cuda":
            return Choice(backend="torch", reason=f"auto, on {device.type}")
        if found:
            return Choice(backend="torch", reason=f"auto, since triton cannot: {found}")
        return Choice(backend="triton", reason="auto, on CUDA")
    if backend == "triton" and found:
        raise BackendError(f"{op}: backend 'triton' cannot run: {found}; 'torch' runs anywhere")
    return Choice(backend=backend, reason="as configured")


def implementation(
    package: str, op: str, backend: str, device: torch.device, *, unsupported: str = ""
) -> ModuleType:
    """Import the module of an op's package that is named after the backend that runs.

    Args:
        package: name of the package.
        op: see :func:`choose`, as the others.
        backend: what the user asked for.
        device: of the op's tensors.
        unsupported: why triton cannot take these arguments; empty if it can.

    Raises:
        BackendError: no such backend, or it cannot run here.
    """
    choice = choose(op, backend, device, unsupported=unsupported)
    return importlib.import_module(f"{package}.{choice.backend}")


def obstacle(backend: str, device: torch.device) -> str:
    """Return why a backend cannot run on a device; empty if it can."""
    if backend != "triton":
        return ""
    missing = _triton_import_error()
    if missing:
        return missing
    if interpreting():
        if _triton_compiles():
            return "TRITON_INTERPRET=1 was set after Triton was imported; set it before"
        return "" if device.type == "cpu" else "TRITON_INTERPRET=1 takes tensors on CPU only"
    if device.type != "cuda":
        return f"needs CUDA tensors, these are on {device.type} (TRITON_INTERPRET=1 runs on CPU)"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        major, minor = torch.cuda.get_device_capability(device)
        return f"needs compute capability 8.0, this device has {major}.{minor}"
    return ""


def interpreting() -> bool:
    """Say whether Triton kernels that are imported now run in the interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


@functools.cache
def _triton_import_error() -> str:
    try:
        importlib.import_module("triton")
    except ImportError as error:
        return f"triton cannot be imported: {error}"
    return ""


@functools.cache
def _triton_compiles() -> bool:
    """Say whether Triton was imported without the interpreter, which its own library then lacks."""
    runtime = importlib.import_module("triton.runtime.jit")
    library = importlib.import_module("triton.language.standard")
    return isinstance(library.zeros, runtime.JITFunction)


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """Whether one backend of one op can run on a device, and whether ``auto`` takes it there."""

    op: str
    summary: str
    backend: str
    device: str
    available: bool
    automatic: bool
    reason: str


def statuses(device: torch.device | None = None) -> list[BackendStatus]:
    """Return all backends of all ops as they are on a device: CUDA if there is any, else CPU."""
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for op, summary in OPS.items():
        automatic = choose(op, "auto", device).backend
        for backend in BACKENDS:
            found = obstacle(backend, device)
            rows.append(
                BackendStatus(
                    op=op,
                    summary=summary,
                    backend=backend,
                    device=str(device),
                    available=not found,
                    automatic=backend == automatic,
                    reason=found,
                )
            )
    return rows
