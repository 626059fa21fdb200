from __future__ import annotations

import fiddle as fdl
import pytest

from components.encoders.blstm import BLSTMEncoder
from components.encoders.conformer import ConformerEncoder
from components.tokenizers.byte import ByteTokenizer
from core.config.override import override
from core.errors import ConfigError
from tests.core.config.conftest import ENCODERS, Toy
from tests.core.config.toy.parts import times


def test_a_swap_keeps_what_both_take(toy: Toy) -> None:
    config = toy.config()
    config.task.encoder.kernel_size = 7

    lines = override(config, "task.encoder", "@encoder/blstm")

    assert lines == [
        "task.encoder: @encoder/conformer -> @encoder/blstm "
        "(kept dim, layers, dropout; dropped kernel_size)"
    ]
    assert config.task.encoder == fdl.Config(BLSTMEncoder, dim=144, layers=2, dropout=0.2)


def test_an_argument_of_another_type_is_dropped(toy: Toy) -> None:
    config = toy.config()
    config.task.encoder.dim = "144"

    lines = override(config, "task.encoder", "@encoder/blstm")

    assert lines[0].endswith("(kept layers, dropout; dropped dim)")


def test_a_shared_component_changes_everywhere(toy: Toy) -> None:
    config = toy.config()

    lines = override(config, "data.tokenizer", "@tokenizer/byte")

    assert lines == [
        "data.tokenizer: @tokenizer/character -> @tokenizer/byte (also changes task.tokenizer)"
    ]
    assert config.task.tokenizer is config.data.tokenizer
    assert fdl.get_callable(config.task.tokenizer) is ByteTokenizer


def test_an_empty_place_is_filled(toy: Toy) -> None:
    config = toy.config()

    lines = override(config, "task.augmentation", "@augmentation/spec_augment")

    assert lines == ["task.augmentation: None -> @augmentation/spec_augment"]
    assert isinstance(config.task.augmentation, fdl.Config)


def test_a_partial_stays_a_partial(toy: Toy) -> None:
    config = toy.config()
    config.optimizer = fdl.Partial(times, factor=2)

    override(config, "optimizer", "@optimizer/adamw")

    assert isinstance(config.optimizer, fdl.Partial)


def test_a_list_of_components_replaces_a_list(toy: Toy) -> None:
    config = toy.config()
    override(config, "callbacks", "[]")

    assert config.callbacks == ()
    config.data.anything = None
    with pytest.raises(ConfigError, match=r"callbacks\[0\] takes a callback; head/ctc is a head"):
        override(config, "callbacks", "[@head/ctc]")
    lines = override(config, "callbacks", "[@callback/progress, @callback/progress]")
    assert lines == ["callbacks: () -> [@callback/progress, @callback/progress]"]
    assert [type(callback) for callback in config.callbacks] == [fdl.Config, fdl.Config]


def test_a_refused_swap_leaves_everything_as_it_was(toy: Toy) -> None:
    config = toy.config()

    with pytest.raises(ConfigError) as caught:
        override(config, "task.encoder", "@head/ctc")

    assert str(caught.value) == (
        f"task.encoder takes an encoder; head/ctc is a head; encoders: {ENCODERS} "
        f"(now @encoder/conformer, set at {toy.at('task=fdl.Config(')})"
    )
    assert fdl.get_callable(config.task.encoder) is ConformerEncoder
    assert config == toy.config()
