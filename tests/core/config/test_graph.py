from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from core.config.graph import to_dot
from tests.core.config.conftest import Toy


def test_boxes_hold_components_and_changed_values(toy: Toy) -> None:
    dot = to_dot(toy.config("task.encoder.heads=8", "task.encoder.bias=false"))

    assert (
        '[label="@encoder/conformer\\ldim = 144\\llayers = 2\\ldropout = 0.2\\lbias = False\\l"];'
    ) in dot, "a value equal to its default is left out"
    assert '[label="ToyTask"];' in dot
    assert '[label="partial times\\lfactor = 2\\l"];' in dot


def test_a_shared_node_is_one_box_with_two_edges(toy: Toy) -> None:
    dot = to_dot(toy.config())

    boxes = re.findall(r'(n\d+) \[label="@tokenizer/character"\];', dot)
    assert len(boxes) == 1
    assert len(re.findall(rf'-> {boxes[0]} \[label="tokenizer"\];', dot)) == 2


def test_edges_are_named_by_parameter(toy: Toy) -> None:
    dot = to_dot(toy.config())

    assert re.search(r'n0 -> n\d+ \[label="callbacks\[1\]"\];', dot)
    assert re.search(r'n1 -> n\d+ \[label="encoder"\];', dot)


def test_the_text_is_the_same_each_time_and_quotes_are_escaped(toy: Toy) -> None:
    config = toy.config('data.train=a"b\\c')

    assert to_dot(config) == to_dot(config)
    assert r"train = 'a\"b\\\\c'" in to_dot(config)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_it(toy: Toy) -> None:
    run = subprocess.run(
        ["dot", "-Tsvg"], input=to_dot(toy.config()), capture_output=True, text=True, check=True
    )
    assert "<svg" in run.stdout
