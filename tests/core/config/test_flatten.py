from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from core.config.flatten import fingerprint, flat_text, flatten, sort_key
from core.config.values import Symbol
from tests.core.config.conftest import STAGE, Toy
from tests.core.config.toy.parts import Norm

ROOT = Path(__file__).parents[3]


def test_every_leaf_is_there_with_defaults(toy: Toy) -> None:
    flat = flatten(toy.config())

    assert flat["task"] == "tests.core.config.toy.parts.ToyTask"
    assert flat["task.encoder"] == "@encoder/conformer"
    assert flat["task.encoder.dim"] == 144
    assert flat["task.dropout"] == 0.1
    assert flat["data.validation.dev"] == "demo:dev"
    assert flat['data.validation["test.clean"]'] == "demo:test"
    assert flat["data.shape"] == (80, 100)
    assert flat["data.sort"] == "partial tests.core.config.toy.parts.times"
    assert "data.sort.value" not in flat
    assert flat["callbacks[1].name"] == "second"
    assert flat["trackers"] == ()


def test_a_shared_node_is_printed_once(toy: Toy) -> None:
    flat = flatten(toy.config())

    assert flat["task.tokenizer"] == "@tokenizer/character"
    assert flat["data.tokenizer"] == "&task.tokenizer"
    assert "data.tokenizer.lowercase" not in flat


def test_values_are_plain_data_or_text(toy: Toy) -> None:
    config = toy.config()
    config.data.cache = Path("/x")
    config.task.norm = Norm.LAYER
    config.data.dtype = torch.bfloat16

    flat = flatten(config)

    assert flat["data.cache"] == "Path('/x')"
    assert isinstance(flat["data.dtype"], Symbol)
    assert flat["data.dtype"] == "torch.bfloat16"
    assert flat["task.norm"] == "tests.core.config.toy.parts.Norm.LAYER"
    for value in flat.values():
        assert isinstance(value, str | int | float | tuple | list | dict | None)


def test_text_tells_a_string_from_a_component(toy: Toy) -> None:
    config = toy.config()
    config.name = "@encoder/conformer"

    lines = flat_text(config).splitlines()

    assert "name: '@encoder/conformer'" in lines
    assert "task.encoder: @encoder/conformer" in lines
    assert "task.dropout: 0.1" in lines


def test_lines_are_sorted_with_indices_as_numbers(toy: Toy) -> None:
    config = toy.config()
    config.callbacks = config.callbacks * 6

    paths = list(flatten(config))
    top = [path for path in paths if path.startswith("callbacks[") and path.endswith("]")]

    assert top == [f"callbacks[{number}]" for number in range(12)]
    assert sort_key(("a", 2)) < sort_key(("a", 10)) < sort_key(("a", "b"))


def test_a_missing_argument_shows(toy: Toy) -> None:
    config = toy.config()
    del config.task.encoder

    assert flatten(config)["task.encoder"] == "<required, not set>"


def test_the_fingerprint_follows_values_and_sharing(toy: Toy) -> None:
    config = toy.config()
    before = fingerprint(config)

    assert len(before) == 8
    assert fingerprint(toy.config()) == before
    config.task.encoder.heads = 8  # its default
    assert fingerprint(config) == before
    config.task.encoder.heads = 4
    assert fingerprint(config) != before


def test_the_fingerprint_is_the_same_in_every_process(toy: Toy) -> None:
    code = (
        "import sys\n"
        "from core.config.compose import compose_target\n"
        "from core.config.flatten import fingerprint\n"
        "print(fingerprint(compose_target(sys.argv[1], []).config))"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code, STAGE],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "4711")
    }

    assert prints == {fingerprint(toy.config())}
