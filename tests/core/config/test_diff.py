from __future__ import annotations

import fiddle as fdl

from core.config.diff import diff_lines, differences, topmost
from tests.core.config.conftest import Toy


def test_equal_configurations_have_no_difference(toy: Toy) -> None:
    assert diff_lines(toy.config(), toy.config()) == []


def test_lines_say_what_leads_from_one_to_the_other(toy: Toy) -> None:
    other = toy.config("task.encoder=@encoder/blstm", "task.dropout=0.5", "task.mixing=null")

    lines = diff_lines(toy.config(), other)

    assert any(line.split() == ["-", "task.encoder.heads:", "8"] for line in lines)
    assert any(line.split() == ["~", "task.dropout:", "0.1", "->", "0.5"] for line in lines)
    encoder = next(line for line in lines if line.startswith("~ task.encoder: "))
    assert encoder.split("  ")[-1].strip() == "@encoder/conformer -> @encoder/blstm"
    values = {len(line) - len(line[2:].split(":", 1)[1].lstrip()) for line in lines}
    assert len(values) == 1, "values are aligned"


def test_differences_are_sorted_by_path_with_indices_as_numbers(toy: Toy) -> None:
    first, second = toy.config(), toy.config()
    first.callbacks = [fdl.Config(c.__fn_or_cls__) for c in first.callbacks * 6]
    second.callbacks = []

    paths = [change.path for change in differences(first, second)]

    assert paths.index("callbacks[2]") < paths.index("callbacks[10]")
    assert paths[0] == "callbacks"


def test_topmost_leaves_out_what_went_with_its_component(toy: Toy) -> None:
    other = toy.config("task.mixing=null")
    other.callbacks.pop()

    found = topmost(differences(toy.config(), other))

    assert [(change.path, change.new) for change in found] == [
        ("callbacks[1]", "(absent)"),
        ("task.mixing", "None"),
    ]


def test_unsharing_a_node_is_a_difference(toy: Toy) -> None:
    other = toy.config()
    other.data.tokenizer = fdl.deepcopy_with(other.task.tokenizer)

    assert [line.split() for line in diff_lines(toy.config(), other)] == [
        ["~", "data.tokenizer:", "&task.tokenizer", "->", "@tokenizer/character"],
        ["+", "data.tokenizer.lowercase:", "False"],
    ]
