from __future__ import annotations

import pytest
import torch

from core.errors import TrainingError
from core.train.memory import explained
from tests.core.train.toy import toy_batch


def test_a_real_failed_allocation_is_answered_with_numbers() -> None:
    batches = [toy_batch(2, 1), toy_batch(5, 2)]
    with pytest.raises(TrainingError) as raised, explained(batches, step=7):
        torch.empty(2**60)
    text = str(raised.value)
    for part in ("step 7", "5 utterances", "5.0 padded seconds", "u2-0", "data.batch_seconds"):
        assert part in text


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained([toy_batch(1, 1)], step=1):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
