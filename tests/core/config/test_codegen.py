from __future__ import annotations

from pathlib import Path
from typing import Any

import fiddle as fdl
import torch

from core.config.codegen import WIDTH, generate
from tests.core.config.conftest import Toy
from tests.core.config.toy import parts
from tests.core.config.toy.parts import Mixing, Norm, ToyCallback


def rebuild(config: fdl.Buildable[Any]) -> Any:
    """Run generated source and return the configuration it makes."""
    namespace: dict[str, Any] = {}
    exec(generate(config, {}), namespace)
    return namespace["experiment"]()


def test_the_source_reads_like_an_experiment_file(toy: Toy) -> None:
    source = generate(toy.config(), {"target": "toy", "note": 'a """ b \\ c\nd"'})

    assert "\n    tokenizer = fdl.Config(CharacterTokenizer)\n    return fdl.Config(\n" in source
    assert (
        "            encoder=fdl.Config(ConformerEncoder, dim=144, layers=2, dropout=0.2),\n"
        in source
    )
    assert "from tests.core.config.toy.parts import Mixing, ToyCallback, ToyData" in source
    assert "\nnote: a ''' b \\\\ c d\" \n" in source
    assert max(len(line) for line in source.splitlines()) <= WIDTH
    assert rebuild(toy.config()) == toy.config()


def test_sharing_is_kept_when_it_is_nested() -> None:
    inner = fdl.Config(Mixing, ctc=0.5)
    outer = fdl.Config(ToyCallback, name=inner)
    config = fdl.Config(dict, a=outer, b=[outer, {"k": inner}], lambda_=inner)

    made = rebuild(config)

    assert made == config
    assert made.a is made.b[0]
    assert made.a.name is made.b[1]["k"] is made.lambda_


def test_every_kind_of_value_is_written() -> None:
    values = {
        "path": Path("/한글/x"),
        "dtype": torch.bfloat16,
        "enum": Norm.LAYER,
        "cls": Mixing,
        "fn": parts.times,
        "inf": float("-inf"),
        "text": "both ' and \" and \\ and \n",
        "one": (1,),
        "none": (),
        "nested": {"a b": [1.5, None, True]},
    }

    made = rebuild(fdl.Config(dict, **values))

    assert dict(made.__arguments__) == values


def test_nan_survives() -> None:
    made = rebuild(fdl.Config(Mixing, ctc=float("nan")))

    assert made.ctc != made.ctc


def test_two_classes_of_one_name_are_told_apart() -> None:
    clash = type("Mixing", (), {"__module__": "elsewhere.x"})

    source = generate(fdl.Config(dict, a=fdl.Config(Mixing), b=clash), {})

    assert "from elsewhere.x import Mixing as Mixing_of_elsewhere_x" in source
    assert "b=Mixing_of_elsewhere_x" in source


def test_partials_and_factories_stay_what_they_are() -> None:
    config = fdl.Partial(parts.times, factor=fdl.ArgFactory(Mixing))

    made = rebuild(config)

    assert isinstance(made, fdl.Partial)
    assert isinstance(made.factor, fdl.ArgFactory)


def test_long_lists_are_broken_into_lines() -> None:
    config = fdl.Config(Mixing, labels=tuple(f"label number {n}" for n in range(20)))

    source = generate(config, {})

    assert max(len(line) for line in source.splitlines()) <= WIDTH
    assert rebuild(config) == config
