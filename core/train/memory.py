"""Out of memory, answered with numbers and with settings to change, instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from core.contracts import Batch
from core.errors import TrainingError

MESSAGES = (
    "can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""How plain errors say it that are not of the type."""
MODEL_TOO_LARGE = (
    "python -m core.inspect show prints the parameters by module: lower the widths, or take a "
    "device with more memory."
)
CHECKPOINTING = ".gradient_checkpointing"
LONGEST = ("data.max_seconds", "data.max_mel_frames", "data.max_codes")
"""Settings that bound the length of an utterance."""


@contextmanager
def explained(what: str, *, advice: str, batches: Sequence[Batch] = ()) -> Iterator[None]:
    """Turn an allocation failure inside the block into a TrainingError that says what to set.

    Args:
        what: what the block does, such as ``step 12``.
        advice: what to do then.
        batches: micro-batches that it works on.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_answer(what, advice, batches, error)) from error
    except RuntimeError as error:
        if not any(message in str(error) for message in MESSAGES):
            raise
        raise TrainingError(_answer(what, advice, batches, error)) from error


def step_advice(settings: Mapping[str, Any], run: Path) -> str:
    """Return what makes a step smaller, by the settings that this configuration has.

    Args:
        settings: value by path.
        run: directory of the run, which the same command no longer finds once a setting changes.
    """
    found = [*_fewer_rows(settings), *_recomputed(settings), *_shorter(settings)]
    if settings.get("trainer.precision") == "fp32":
        found.append("trainer.precision=bf16 (now fp32) halves activations")
    return (
        "Take one or more of these, and add --resume "
        f"{run} to go on from the last checkpoint:\n" + "\n".join(f"  {line}" for line in found)
    )


def _fewer_rows(settings: Mapping[str, Any]) -> Iterator[str]:
    accumulation = settings.get("trainer.accumulation", 1)
    rows, seconds = settings.get("data.batch_size"), settings.get("data.batch_seconds")
    if isinstance(rows, int) and rows > 1:
        if rows % (2 * settings.get("data.rows_per_speaker", 1)) == 0:
            yield (
                f"data.batch_size={rows // 2} trainer.accumulation={accumulation * 2} (now {rows} "
                f"and {accumulation}): a step keeps its {rows * accumulation} rows a rank, and the "
                "schedule stays what it is"
            )
        else:
            yield (
                f"a lower data.batch_size (now {rows}) with more trainer.accumulation (now "
                f"{accumulation}); the same product keeps the schedule"
            )
    if isinstance(seconds, int | float):
        yield (
            f"data.batch_seconds={seconds / 2:g} trainer.accumulation={accumulation * 2} (now "
            f"{seconds:g} and {accumulation}): about the same speech a step"
        )


def _recomputed(settings: Mapping[str, Any]) -> Iterator[str]:
    for path, value in settings.items():
        if path.endswith(CHECKPOINTING) and value is False:
            yield f"{path}=true: activations are computed again in the backward pass"


def _shorter(settings: Mapping[str, Any]) -> Iterator[str]:
    for path in LONGEST:
        if isinstance(settings.get(path), int | float):
            yield f"a lower {path} (now {settings[path]:g})"


def _answer(what: str, advice: str, batches: Sequence[Batch], error: BaseException) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{what}: out of memory ({reason}).{_largest(batches)}{_held()} {advice}"


def _largest(batches: Sequence[Batch]) -> str:
    if not batches:
        return ""
    largest = max(batches, key=lambda batch: batch.padded_seconds)
    return (
        f" The largest micro-batch had {len(largest)} utterances, {largest.padded_seconds:.1f} "
        f"padded seconds (about {largest.padded_seconds / max(len(largest), 1):.1f} s each): "
        f"{', '.join(largest.ids[:4])} …"
    )


def _held() -> str:
    if not torch.cuda.is_available():
        return ""
    gib = 2**30
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return (
        f" The device held {torch.cuda.max_memory_allocated() / gib:.1f} GiB at most, of "
        f"{total / gib:.1f} GiB."
    )
