from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import TrainingError
from core.train.memory import explained, step_advice
from tests.core.train.toy import toy_batch

RUN = Path("runs/stage2")
STAGE2: dict[str, Any] = {
    "data.batch_size": 16,
    "data.max_codes": 1815,
    "data.max_mel_frames": 2584,
    "data.rows_per_speaker": 1,
    "task.model.gradient_checkpointing": False,
    "trainer.accumulation": 4,
    "trainer.precision": "fp32",
}


def lines(**changes: Any) -> list[str]:
    return step_advice({**STAGE2, **changes}, RUN).splitlines()


def test_a_real_failed_allocation_is_answered_with_numbers() -> None:
    batches = [toy_batch(2, 1), toy_batch(5, 2)]
    with (
        pytest.raises(TrainingError) as raised,
        explained("step 7", advice=step_advice(STAGE2, RUN), batches=batches),
    ):
        torch.empty(2**60)
    text = str(raised.value)
    for part in ("step 7: out of memory", "5 utterances", "5.0 padded seconds", "u2-0"):
        assert part in text
    assert "can't allocate memory" in text
    assert "data.batch_size=8 trainer.accumulation=8" in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_every_form_of_it_is_known(error: Exception) -> None:
    with (
        pytest.raises(TrainingError, match=r"validation: out of memory \(.+\)\. Do this"),
        explained("validation", advice="Do this"),
    ):
        raise error


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained("step 1", advice=""):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_advice_names_the_present_values_and_what_keeps_the_schedule() -> None:
    assert lines() == [
        "Take one or more of these, and add --resume runs/stage2 to go on from the last "
        "checkpoint:",
        "  data.batch_size=8 trainer.accumulation=8 (now 16 and 4): a step keeps its 64 rows a "
        "rank, and the schedule stays what it is",
        "  task.model.gradient_checkpointing=true: activations are computed again in the backward "
        "pass",
        "  a lower data.max_mel_frames (now 2584)",
        "  a lower data.max_codes (now 1815)",
        "  trainer.precision=bf16 (now fp32) halves activations",
    ]


def test_advice_leaves_out_what_is_done_or_does_not_exist() -> None:
    done = lines(
        **{
            "task.model.gradient_checkpointing": True,
            "trainer.precision": "bf16",
            "data.batch_size": 1,
        }
    )
    assert done[1:] == [
        "  a lower data.max_mel_frames (now 2584)",
        "  a lower data.max_codes (now 1815)",
    ]
    speech = step_advice(
        {"data.batch_seconds": 60.0, "data.max_seconds": 20.0, "trainer.accumulation": 1}, RUN
    )
    assert "data.batch_seconds=30 trainer.accumulation=2 (now 60 and 1)" in speech
    assert "a lower data.max_seconds (now 20)" in speech
    assert "batch_size" not in speech


@pytest.mark.parametrize(("rows", "together"), [(15, 1), (12, 4)])
def test_a_batch_that_cannot_be_halved_is_not_proposed(rows: int, together: int) -> None:
    found = lines(**{"data.batch_size": rows, "data.rows_per_speaker": together})
    assert found[1] == (
        f"  a lower data.batch_size (now {rows}) with more trainer.accumulation (now 4); the same "
        "product keeps the schedule"
    )
