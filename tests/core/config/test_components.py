from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fiddle as fdl
import pytest
from torch import nn

from components.encoders.blstm import BLSTMEncoder
from components.encoders.conformer import ConformerEncoder
from components.heads.ctc import CTCHead
from components.losses.ctc import CTCLoss
from components.optimizers.adamw import AdamW
from core.config.components import (
    component_problem,
    find_component,
    kind_of,
    kinds_for,
    plural,
    protocol_methods,
)
from core.contracts import Encoder, Head, OptimizerFactory, Scheduler
from core.errors import ConfigError
from core.train.callback import Callback
from core.train.trainer import Trainer
from tests.core.config.conftest import ENCODERS
from tests.core.config.toy.parts import Mixing, NoSuchScheduler, ToyCallback, times


def test_kinds_come_from_registration_docstring_or_name() -> None:
    assert kind_of(CTCLoss) == "loss"
    assert kind_of(Encoder) == "encoder"
    assert kind_of(OptimizerFactory) == "optimizer"
    assert kind_of(Callback) == "callback"
    assert kind_of(nn.Module) is None
    assert kind_of(int) is None


def test_the_present_component_counts_where_the_annotation_is_silent() -> None:
    assert kinds_for(Encoder | None, CTCHead) == ("encoder",)
    assert kinds_for(nn.Module, CTCHead) == ("head",)
    assert kinds_for(nn.Module) == ()


def test_a_component_is_found() -> None:
    assert find_component("@encoder/blstm", "x", Encoder) is BLSTMEncoder


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "@head/ctc",
            f"x takes an encoder; head/ctc is a head; encoders: {ENCODERS}",
        ),
        ("@encoder/confromer", "x: unknown encoder 'confromer': did you mean 'conformer'?"),
        ("@encodr/conformer", "x: unknown kind 'encodr': did you mean 'encoder'"),
        (
            "@conformer",
            "x: expected @kind/name, got '@conformer'; did you mean @encoder/",
        ),
        ("@encoder/", "x: expected @kind/name, got '@encoder/'"),
    ],
)
def test_what_is_not_an_encoder_is_refused(reference: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_component(reference, "x", Encoder)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("made_by", "function", "annotation", "problem"),
    [
        (fdl.Config, ConformerEncoder, Encoder, None),
        (fdl.Config, ConformerEncoder, Encoder | None, None),
        (fdl.Config, ConformerEncoder, Any, None),
        (fdl.Config, AdamW, OptimizerFactory, None),
        (fdl.Partial, times, OptimizerFactory, None),
        (fdl.Config, ToyCallback, Callback, None),
        (fdl.Partial, times, Callable[[int], int], None),
        (fdl.Config, times, int, None),
        (
            fdl.Config,
            CTCHead,
            Encoder,
            f" takes an encoder; head/ctc is a head; encoders: {ENCODERS}",
        ),
        (
            fdl.Partial,
            ConformerEncoder,
            Encoder,
            " is fdl.Partial, and would stay a function; use fdl.Config to build "
            "components.encoders.conformer.ConformerEncoder",
        ),
        (
            fdl.Partial,
            Trainer,
            Trainer,
            " is fdl.Partial, and would stay a function; use fdl.Config to build "
            "core.train.trainer.Trainer",
        ),
        (
            fdl.Config,
            Mixing,
            Callable[[int], int],
            " takes a function, and objects of tests.core.config.toy.parts.Mixing cannot be "
            "called; use fdl.Partial",
        ),
        (
            fdl.Config,
            NoSuchScheduler,
            Scheduler,
            ": expected Scheduler, and tests.core.config.toy.parts.NoSuchScheduler lacks factor",
        ),
        (
            fdl.Config,
            Mixing,
            OptimizerFactory,
            ": expected OptimizerFactory, and objects of tests.core.config.toy.parts.Mixing "
            "cannot be called",
        ),
        (
            fdl.Config,
            Mixing,
            Trainer,
            ": expected a Trainer, and tests.core.config.toy.parts.Mixing is not one",
        ),
        (
            fdl.Config,
            Mixing,
            Sequence[int],
            ": expected list of int, found tests.core.config.toy.parts.Mixing",
        ),
    ],
)
def test_what_may_stand_where(
    made_by: type[fdl.Buildable[Any]], function: Any, annotation: Any, problem: str | None
) -> None:
    assert component_problem(made_by, function, annotation) == problem


def test_protocol_methods_are_those_a_class_must_have() -> None:
    assert protocol_methods(Head) == {"setup", "inputs", "__call__"}


def test_plurals() -> None:
    assert [plural(k) for k in ("encoder", "loss", "features", "data")] == [
        "encoders",
        "losses",
        "features",
        "data",
    ]
