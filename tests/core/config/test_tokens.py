from __future__ import annotations

from core.config.load import load_experiment
from core.config.tokens import sort_tokens
from tests.core.config.conftest import STAGE


def test_tokens_are_sorted_in_order() -> None:
    found = sort_tokens(
        ["width=3", "a.b=1", "+quick", "seed=4", "a.b=2", "+narrow", "train=a=b"],
        load_experiment(STAGE),
    )

    assert found.knobs == {"width": "3", "train": "a=b"}
    assert found.presets == ["quick", "narrow"]
    assert found.overrides == [("a.b", "1"), ("seed", "4"), ("a.b", "2")]
    assert found.problems == []


def test_every_token_that_is_none_of_these_is_a_problem() -> None:
    found = sort_tokens(
        ["quick", "nothing", "+quik", "+quick", "+quick", "width=1", "width=2"],
        load_experiment(STAGE),
    )

    assert found.problems == [
        "quick: expected knob=value, +preset or path=value; did you mean '+quick'?",
        "nothing: expected knob=value, +preset or path=value",
        "+quik: no such preset for tests.core.config.toy.stage; did you mean 'quick'?",
        "+quick: preset 'quick' is given twice",
        "width=2: knob 'width' is given twice",
    ]


def test_a_saved_configuration_takes_overrides_only() -> None:
    found = sort_tokens(["+quick", "width=1"], None)

    assert found.problems == ["+quick: a saved configuration takes no presets, only path=value"]
    assert found.overrides == [("width", "1")]
