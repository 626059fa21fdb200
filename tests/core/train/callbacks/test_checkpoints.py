from __future__ import annotations

from pathlib import Path

import pytest

from core.train.callbacks.checkpoints import Checkpoints
from tests.core.train.test_loop import loop


@pytest.mark.parametrize(("keep_best", "lines"), [(1, 1), (0, 0)])
def test_without_validation_it_says_that_none_will_be_best(
    tmp_path: Path, keep_best: int, lines: int
) -> None:
    said: list[str] = []
    trained = loop(tmp_path, said=said, max_steps=2)
    assert not trained.experiment.data.eval_splits
    Checkpoints(monitor="val/cer", keep_best=keep_best).on_start(trained)
    assert len(said) == lines
    assert all("no checkpoint will be BEST" in line and "'val/cer'" in line for line in said)
