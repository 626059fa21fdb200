"""What the CTC ops accept: shapes, dtypes, devices, and the content of targets and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.sharding import is_sharded

Lengths = Tensor | Sequence[int]


class Labels(NamedTuple):
    """Targets and lengths in one form.

    Args:
        targets: (B, U) or, concatenated, (sum of target lengths,), int32 or int64.
        input_lengths: (B,) int32 or int64, on CPU or on the targets' device.
        target_lengths: likewise.
    """

    targets: Tensor
    input_lengths: Tensor
    target_lengths: Tensor


def check_logits(logits: Tensor) -> None:
    """Refuse logits that are not (B, T, V) floating point with B and V of at least 1."""
    _check_floating("logits", logits)
    if logits.ndim != 3 or logits.shape[0] < 1 or logits.shape[2] < 1:
        raise KernelInputError(
            f"logits: expected (B, T, V), batch first, with B and V of at least 1; "
            f"found {tuple(logits.shape)}"
        )


def check_projection(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse an output projection whose parts do not fit each other."""
    _check_floating("hidden", hidden)
    _check_floating("weight", weight)
    if hidden.ndim != 3 or hidden.shape[0] < 1:
        raise KernelInputError(
            f"hidden: expected (B, T, D), batch first, B of at least 1; found {tuple(hidden.shape)}"
        )
    if weight.ndim != 2 or weight.shape[0] < 1 or weight.shape[1] != hidden.shape[2]:
        raise KernelInputError(
            f"weight: expected (V, {hidden.shape[2]}) for hidden {tuple(hidden.shape)}; "
            f"found {tuple(weight.shape)}"
        )
    _check_device("weight", weight, "hidden", hidden)
    if bias is not None:
        _check_floating("bias", bias)
        if bias.shape != weight.shape[:1]:
            raise KernelInputError(
                f"bias: expected ({weight.shape[0]},) for weight {tuple(weight.shape)}; "
                f"found {tuple(bias.shape)}"
            )
        _check_device("bias", bias, "hidden", hidden)


def check_labels(
    scores_name: str,
    scores: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
) -> Labels:
    """Bring targets and lengths into one form, without a look at their content.

    Args:
        scores_name: name of the (B, T, .) argument, for messages.
        scores: that argument.
        targets: (B, U) or concatenated.
        input_lengths: (B,) integers in any container.
        target_lengths: likewise.

    Raises:
        KernelInputError: a shape, dtype or device does not fit.
    """
    utterances = scores.shape[0]
    _check_integer("targets", targets)
    _check_device("targets", targets, scores_name, scores)
    if targets.ndim not in (1, 2) or (targets.ndim == 2 and targets.shape[0] != utterances):
        raise KernelInputError(
            f"targets: expected ({utterances}, U) or one concatenated dimension; "
            f"found {tuple(targets.shape)}"
        )
    return Labels(
        targets,
        _lengths("input_lengths", input_lengths, utterances, scores_name, scores),
        _lengths("target_lengths", target_lengths, utterances, scores_name, scores),
    )


def _lengths(name: str, lengths: Lengths, count: int, scores_name: str, scores: Tensor) -> Tensor:
    if not isinstance(lengths, Tensor):
        lengths = torch.tensor(list(lengths), dtype=torch.int64)
    _check_integer(name, lengths)
    if lengths.ndim != 1 or lengths.shape[0] != count:
        raise KernelInputError(f"{name}: expected ({count},); found {tuple(lengths.shape)}")
    if lengths.device.type != "cpu":
        _check_device(name, lengths, scores_name, scores)
    return lengths


def _check_floating(name: str, tensor: Tensor) -> None:
    _check_plain(name, tensor)
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise KernelInputError(
            f"{name}: expected float16, bfloat16, float32 or float64; found {tensor.dtype}"
        )


def _check_integer(name: str, tensor: Tensor) -> None:
    _check_plain(name, tensor)
    if tensor.dtype not in (torch.int32, torch.int64):
        raise KernelInputError(f"{name}: expected int32 or int64; found {tensor.dtype}")


def _check_plain(name: str, tensor: Tensor) -> None:
    if is_sharded(tensor):
        raise KernelInputError(
            f"{name} is a DTensor: pass a plain tensor; gather a sharded one first with "
            f"full_tensor(), or keep the output projection out of the sharding"
        )


def _check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise KernelInputError(
            f"{name} is on {tensor.device} but {other_name} on {other.device}: expected one device"
        )
