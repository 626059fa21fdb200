from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import fiddle as fdl
import pytest
import torch
from torch import nn

from components.encoders.conformer import ConformerEncoder
from core.config.policy import Allowlist
from core.config.values import format_value
from core.train.trainer import Trainer
from experiments import stage1_ctc
from tests.core.config.toy.parts import Norm, times


@pytest.mark.parametrize(
    "value",
    [Trainer, ConformerEncoder, torch.float16, nn.Linear, torch.optim.AdamW, fdl.Partial, dict],
)
def test_what_configurations_are_made_of_is_allowed(value: object) -> None:
    assert Allowlist().allows_value(value)


@pytest.mark.parametrize(
    "value", [os.system, eval, torch.load, fdl.build, import_module, Path.open, type, os, "text"]
)
def test_everything_else_is_not(value: object) -> None:
    assert not Allowlist(["tests"]).allows_value(value)


def test_functions_of_the_framework_must_be_registered() -> None:
    policy = Allowlist()

    assert not policy.allows_value(format_value)
    assert policy.refusal(format_value) == (
        "core.config.values.format_value is not a registered component; register it, or configure "
        "a class"
    )
    assert policy.allows_value(stage1_ctc.experiment)


def test_the_caller_may_allow_a_package() -> None:
    for value in (times, Norm, Norm.BATCH):
        assert not Allowlist().allows_value(value)
        assert Allowlist(["tests.core"]).allows_value(value)


def test_modules_are_refused_before_they_are_imported() -> None:
    policy = Allowlist()

    assert policy.allows_import("components.encoders.new", "New")
    assert not policy.allows_import("componentsx", "New")
    assert not policy.allows_import("subprocess", "Popen")
    assert not policy.allows_import("builtins", "eval")
    assert policy.allows_import("builtins", "dict")


def test_packages_of_plugins_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "sori_plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sori_plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sori.components]\nplug = sori_plug.parts\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert Allowlist().allows_import("sori_plug.other", "Thing")
