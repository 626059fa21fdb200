from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.inspect import main
from tests.fixtures.plugins import declare_plugin

PLUGIN = """
from dataclasses import dataclass

@dataclass
class Row:
    op: str = "transducer_loss"
    summary: str = "RNN-T of logits"
    backend: str = "cuda"
    device: str = "cpu"
    available: bool = False
    automatic: bool = False
    reason: str = "needs a GPU of next year"

def statuses():
    return [Row()]

def fails():
    raise RuntimeError("no driver")

def wrong():
    return ["a string"]
"""


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["kernels", *arguments]) == 0
    return capsys.readouterr().out


def test_every_op_is_listed_with_its_backends(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, "--json"))["kernels"]
    by_op: dict[str, list[str]] = {}
    for row in rows:
        assert row["available"] is not bool(row["reason"])
        by_op.setdefault(row["op"], []).append(row["backend"])
    assert {"ctc_loss", "linear_ctc_loss", "masked_cross_entropy"} <= set(by_op)
    assert all(backends == ["reference", "torch", "triton"] for backends in by_op.values())
    for op in by_op:
        taken = [row["backend"] for row in rows if row["op"] == op and row["automatic"]]
        assert len(taken) == 1


def test_text_says_what_runs_and_why_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    text = printed(capsys)
    assert "linear_ctc_loss: output projection, softmax and CTC; never holds (B, T, V)" in text
    assert "torch      runs on cpu; backend=auto takes it" in text
    assert "triton     cannot run: needs CUDA tensors" in text


def test_plugins_join_and_a_broken_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sori_extra_kernels.py").write_text(PLUGIN)
    for name in ("statuses", "fails", "wrong", "absent"):
        declare_plugin(
            tmp_path,
            distribution=f"extra-{name}",
            module=f"sori_extra_kernels:{name}",
            group="sori.kernels",
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = printed(capsys)
    assert "transducer_loss [extra-statuses]: RNN-T of logits" in text
    assert "cuda       cannot run: needs a GPU of next year" in text
    assert "sori_extra_kernels:fails [extra-fails]: RuntimeError: no driver" in text
    assert "expected dataclasses, found 'a string'" in text
    assert "AttributeError: module 'sori_extra_kernels' has no attribute 'absent'" in text
    assert len(json.loads(printed(capsys, "--json"))["broken"]) == 3
