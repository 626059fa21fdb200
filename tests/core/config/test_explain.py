from __future__ import annotations

import pytest

from core.config.explain import explain
from core.config.paths import PathError
from tests.core.config.conftest import Toy


def test_a_leaf_with_its_history(toy: Toy) -> None:
    config = toy.config("+narrow", "task.encoder.dim=256")

    assert explain(config, "task.encoder.dim").splitlines() == [
        "task.encoder.dim",
        "  value    256",
        "  type     int",
        "  default  512",
        "  of       components.encoders.conformer.ConformerEncoder.dim",
        "  about    model width D.",
        f"  set      144   {toy.at('encoder=fdl.Config(')}",
        f"  set      144 -> 16   {toy.at('config.task.encoder.dim = 16')}",
        "  set      16 -> 256   command line",
    ]


def test_a_swapped_shared_component(toy: Toy) -> None:
    config = toy.config("task.tokenizer=@tokenizer/bpe")

    lines = explain(config, "data.tokenizer").splitlines()

    assert lines[:4] == [
        "data.tokenizer",
        "  value    @tokenizer/bpe",
        "  type     Tokenizer: a tokenizer",
        "  default  (none: required)",
    ]
    assert lines[-3:] == [
        f"  set      @tokenizer/character   {toy.at('data=fdl.Config(')}",
        "  set      @tokenizer/character -> @tokenizer/bpe   command line",
        "  also at  task.tokenizer",
    ]


def test_a_default_and_its_documentation_over_two_lines(toy: Toy) -> None:
    config = toy.config("task.mixing=null")

    lines = explain(config, "task.mixing").splitlines()

    assert "  about    weights of the losses; None for one loss only." in lines
    assert lines[-1] == "  set      tests.core.config.toy.parts.Mixing -> None   command line"
    assert explain(config, "seed").splitlines()[-1] == "  set      default of Experiment"


def test_an_element(toy: Toy) -> None:
    lines = explain(toy.config("data.validation.dev=x"), "data.validation.dev").splitlines()

    assert lines == [
        "data.validation.dev",
        "  value    'x'",
        "  type     str",
        "  of       tests.core.config.toy.parts.ToyData.validation",
        "  about    manifests by split.",
        f"  set      'demo:dev'   {toy.at('data=fdl.Config(')}",
        "  set      'demo:dev' -> 'x'   command line",
    ]


def test_a_leaf_of_a_shared_component_names_its_other_path(toy: Toy) -> None:
    text = explain(toy.config(), "task.tokenizer.lowercase")

    assert text.splitlines()[-1] == "  also at  data.tokenizer.lowercase"


def test_an_unknown_path_is_refused_with_the_nearest(toy: Toy) -> None:
    with pytest.raises(PathError, match=r"did you mean 'task\.encoder\.dim'"):
        explain(toy.config(), "task.encoder.dmi")
