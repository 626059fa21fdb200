"""Out of memory, answered with numbers instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from core.contracts import Batch
from core.errors import TrainingError

CPU_MESSAGES = ("can't allocate memory", "DefaultCPUAllocator: not enough memory")


@contextmanager
def explained(batches: Sequence[Batch], step: int) -> Iterator[None]:
    """Turn an allocation failure inside the block into a TrainingError that says what to set."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_answer(batches, step, error)) from error
    except RuntimeError as error:
        if not any(message in str(error) for message in CPU_MESSAGES):
            raise
        raise TrainingError(_answer(batches, step, error)) from error


def _answer(batches: Sequence[Batch], step: int, error: BaseException) -> str:
    largest = max(batches, key=lambda batch: batch.padded_seconds)
    rows = max(len(largest), 1)
    held = ""
    if torch.cuda.is_available():
        gib = 2**30
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        held = (
            f" The device held {torch.cuda.max_memory_allocated() / gib:.1f} GiB at most, of "
            f"{total / gib:.1f} GiB."
        )
    return (
        f"step {step}: out of memory ({str(error).splitlines()[0]}). The largest micro-batch had "
        f"{len(largest)} utterances, {largest.padded_seconds:.1f} padded seconds "
        f"(about {largest.padded_seconds / rows:.1f} s each): {', '.join(largest.ids[:4])} …{held} "
        "Lower data.batch_seconds or data.batch_size, whichever the data have (and raise "
        "trainer.accumulation to keep the step's size), lower data.max_seconds or "
        "data.max_mel_frames, or set trainer.precision=bf16."
    )
