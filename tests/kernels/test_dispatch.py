from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.dispatch import BACKENDS, OPS, choose, obstacle, statuses
from kernels.errors import BackendError

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
needs_interpreter = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles here")


def test_auto_takes_torch_on_cpu_and_says_so() -> None:
    choice = choose("ctc_loss", "auto", CPU)
    assert choice.backend == "torch"
    assert str(choice) == "torch (auto, on cpu)"


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_named_backend_is_taken(backend: str) -> None:
    assert str(choose("ctc_loss", backend, CPU)) == f"{backend} (as configured)"


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(BackendError, match="no backend 'cuda'; expected one of auto, reference"):
        choose("ctc_loss", "cuda", CPU)


def test_triton_without_a_gpu_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(BackendError, match=r"'triton' cannot run: needs CUDA tensors.* on cpu"):
        choose("ctc_loss", "triton", CPU)


@needs_interpreter
def test_triton_in_the_interpreter_takes_tensors_on_cpu_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("ctc_loss", "triton", CPU).backend == "triton"
    assert "CPU only" in obstacle("triton", torch.device("cuda"))


@needs_interpreter
def test_arguments_that_triton_cannot_take_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(BackendError, match="cannot run: 5000 labels in a target"):
        choose("ctc_loss", "triton", CPU, unsupported="5000 labels in a target")


def test_an_interpreter_that_was_asked_for_too_late_is_refused() -> None:
    """Triton's own functions would be compiled ones, which the interpreter cannot call."""
    script = (
        "import os, torch, triton\n"
        "os.environ['TRITON_INTERPRET'] = '1'\n"
        "from kernels.dispatch import obstacle\n"
        "print(obstacle('triton', torch.device('cpu')))\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "was set after Triton was imported" in done.stdout


def test_statuses_cover_every_backend_of_every_op() -> None:
    assert [(row.op, row.backend) for row in statuses(CPU)] == [
        (op, backend) for op in OPS for backend in BACKENDS
    ]


def test_kernels_import_with_torch_alone() -> None:
    """Neither this framework's other packages nor what only they need is imported."""
    script = (
        "import sys\n"
        "for name in ('core', 'components', 'fiddle', 'lhotse', 'aim', 'rich', 'triton'):\n"
        "    sys.modules[name] = None\n"
        "import kernels.ctc, kernels.masked_ce, kernels.quantize\n"
        "from kernels.dispatch import statuses\n"
        "import torch\n"
        "rows = statuses(torch.device('cpu'))\n"
        "assert all('cannot be imported' in r.reason for r in rows if r.backend == 'triton')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
