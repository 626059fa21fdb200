from __future__ import annotations

import pytest

from core.config.paths import PathError, parse_path, resolve
from tests.core.config.conftest import Toy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task.encoder.dmi",
            "task.encoder.dmi: task.encoder is @encoder/conformer (set at {task}), which has no "
            "parameter 'dmi'; did you mean 'task.encoder.dim'?",
        ),
        (
            "task.encodr.dim",
            "task.encodr.dim: task is tests.core.config.toy.parts.ToyTask (set at {root}), which "
            "has no parameter 'encodr'; did you mean 'task.encoder.dim'?",
        ),
        (
            "encoder.dim",
            "encoder.dim: Experiment has no parameter 'encoder'; did you mean 'task.encoder.dim'?",
        ),
        (
            "callbacks[5].every",
            "callbacks[5].every: callbacks (set at {root}) has length 2, and no [5]; "
            "did you mean 'callbacks[1].every' or 'callbacks[0].every'?",
        ),
        (
            "data.validation.dve",
            "data.validation.dve: data.validation (set at {data}) has no key 'dve'; "
            "did you mean 'data.validation.dev'?",
        ),
        (
            "task.dropout.rate",
            "task.dropout.rate: task.dropout is 0.1 (default of ToyTask), with nothing below it; "
            "did you mean 'task.dropout'?",
        ),
        (
            "trainer.zzz",
            "trainer.zzz: trainer is core.train.trainer.Trainer (set at {root}), which has no "
            "parameter 'zzz'; ",
        ),
    ],
)
def test_a_path_that_leads_nowhere(toy: Toy, text: str, message: str) -> None:
    places = {
        "root": toy.at("return fdl.Config("),
        "task": toy.at("task=fdl.Config("),
        "data": toy.at("data=fdl.Config("),
    }

    with pytest.raises(PathError) as caught:
        resolve(toy.config(), parse_path(text))

    assert str(caught.value).startswith(message.format(**places))
