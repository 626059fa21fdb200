from __future__ import annotations

import pytest

from core.config.override import override
from core.errors import ConfigError, ConfigErrors
from tests.core.config.conftest import Toy
from tests.core.config.toy.parts import Norm


@pytest.mark.parametrize(
    ("target", "text", "value"),
    [
        ("optimizer.lr", "1", 1.0),
        ("task.encoder.dim", "256", 256),
        ("seed", "3", 3),
        ("data.workers", "4", 4),
        ("data.train", "nemo:/데이터/x=1.json", "nemo:/데이터/x=1.json"),
        ("data.validation", "{dev: a, test: b}", {"dev": "a", "test": "b"}),
        ("data.shape", "[1, 2]", (1, 2)),
        ("task.norm", "LAYER", Norm.LAYER),
        ("task.mixing", "null", None),
        ("trainer.clip_norm", "null", None),
    ],
)
def test_leaves_take_values_of_their_type(toy: Toy, target: str, text: str, value: object) -> None:
    config = toy.config()

    override(config, target, text)

    holder, _, name = target.rpartition(".")
    for step in holder.split(".") if holder else []:
        config = getattr(config, step)
    found = getattr(config, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("target", "text", "message"),
    [
        (
            "task.encoder.dim",
            "abc",
            "task.encoder.dim: expected int, got 'abc' (now 144, set at {encoder})",
        ),
        (
            "task.encoder.dim",
            "3.5",
            "task.encoder.dim: expected int, got '3.5' (now 144, set at {encoder})",
        ),
        (
            "trainer.precision",
            "bf61",
            "trainer.precision: expected one of 'fp32', 'bf16', 'fp16', got 'bf61'; "
            "did you mean 'bf16'? (now 'fp32', default of Trainer)",
        ),
        (
            "task.head",
            "ctc",
            "task.head: got 'ctc', but this is @head/ctc, set at {task}; put another component "
            "here with task.head=@kind/name, or set one of its parameters: ",
        ),
        (
            "data.sort",
            "abs",
            "data.sort: got 'abs', but this is partial tests.core.config.toy.parts.times, set at "
            "{data}; put another component here with data.sort=@kind/name, or set one of its "
            "parameters: value, factor",
        ),
        ("task.**", "1", "task.**: not a pattern; write '**.dropout' or 'task.*.dim'"),
        (
            "**.dropuot",
            "0",
            "**.dropuot: matches nothing; did you mean '**.dropout'",
        ),
        ("data.*.dim", "0", "data.*.dim: matches nothing"),
        ("*.encoder", "0", "*.encoder: matches no leaf; task.encoder is @encoder/conformer, set "),
        (
            "**.dim",
            "@encoder/blstm",
            "**.dim: matches no component; task.encoder.dim is 144, set at {encoder}",
        ),
        ("**.dim", "144", "**.dim=144: changes nothing; so it is already at task.encoder.dim"),
    ],
)
def test_refusals(toy: Toy, target: str, text: str, message: str) -> None:
    config = toy.config()
    places = {
        "encoder": toy.at("encoder=fdl.Config("),
        "task": toy.at("task=fdl.Config("),
        "data": toy.at("data=fdl.Config("),
    }

    with pytest.raises(ConfigError) as caught:
        override(config, target, text)

    assert str(caught.value).startswith(message.format(**places))
    assert config == toy.config()


def test_a_glob_sets_every_leaf_it_matches(toy: Toy) -> None:
    config = toy.config()

    lines = override(config, "**.dropout", "0")

    assert lines == ["task.encoder.dropout: 0.2 -> 0.0", "task.dropout: 0.1 -> 0.0"]
    assert config.task.dropout == config.task.encoder.dropout == config.task.head.dropout == 0.0


def test_a_glob_edits_a_shared_leaf_once(toy: Toy) -> None:
    lines = override(toy.config(), "**.lowercase", "true")

    assert lines == [
        "task.tokenizer.lowercase: False -> True (also changes data.tokenizer.lowercase)"
    ]


def test_a_glob_swaps_components(toy: Toy) -> None:
    lines = override(toy.config(), "**.encoder", "@encoder/blstm")

    assert lines == [
        "task.encoder: @encoder/conformer -> @encoder/blstm (kept dim, layers, dropout)"
    ]


def test_a_glob_that_one_place_refuses_changes_nothing(toy: Toy) -> None:
    config = toy.config()

    with pytest.raises(ConfigErrors) as caught:
        override(config, "callbacks.*.every", "x")

    assert caught.value.problems == (
        f"callbacks[0].every: expected int, got 'x' (now 5, set at {toy.at('callbacks=[')})",
        "callbacks[1].every: expected int, got 'x' (now 10, default of ToyCallback)",
    )
    assert config == toy.config()


def test_elements_of_lists_and_mappings(toy: Toy) -> None:
    config = toy.config()

    assert override(config, "callbacks.0.every", "7") == ["callbacks[0].every: 5 -> 7"]
    assert override(config, "data.shape[1]", "7") == ["data.shape[1]: 100 -> 7"]
    assert override(config, 'data.validation["test.clean"]', "x") == [
        "data.validation[\"test.clean\"]: 'demo:test' -> 'x'"
    ]
    assert config.data.validation == {"dev": "demo:dev", "test.clean": "x"}
