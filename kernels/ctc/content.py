"""Refusal of wrong lengths and labels, on tensors that the host can read."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.errors import KernelInputError, LabelError


def check_lengths(name: str, lengths: Tensor, limit: int, what: str) -> None:
    """Refuse a length outside [0, limit].

    Args:
        name: of the argument.
        lengths: (B,) on CPU.
        limit: the largest length there can be.
        what: what ``limit`` is, for the message.

    Raises:
        KernelInputError: names the first utterance at fault.
    """
    for utterance, length in enumerate(lengths.tolist()):
        if not 0 <= length <= limit:
            raise KernelInputError(
                f"{name}[{utterance}] = {length}: expected at least 0 and at most {what} {limit}"
            )


def check_targets(targets: Tensor, target_lengths: Tensor, *, classes: int, blank: int) -> None:
    """Refuse a label outside [0, classes) or equal to the blank.

    Args:
        targets: (B, U) on CPU.
        target_lengths: (B,) on CPU, each at most U.
        classes: V.
        blank: id of the blank.

    Raises:
        LabelError: names the first utterance and position at fault.
    """
    inside = torch.arange(targets.shape[1]) < target_lengths.unsqueeze(1)
    wrong = inside & ((targets < 0) | (targets >= classes) | (targets == blank))
    if bool(wrong.any()):
        utterance, position = wrong.nonzero()[0].tolist()
        raise LabelError(
            f"targets: label {int(targets[utterance, position])} at position {position} of "
            f"utterance {utterance}: expected a class in [0, {classes}) other than the blank, "
            f"{blank}"
        )


def check_pair_lengths(name: str, lengths: Tensor) -> None:
    """Refuse lengths that differ between the views b and b + B of an utterance.

    Raises:
        KernelInputError: names the first utterance at fault.
    """
    half = lengths.shape[0] // 2
    for utterance, (first, second) in enumerate(
        zip(lengths[:half].tolist(), lengths[half:].tolist(), strict=True)
    ):
        if first != second:
            raise KernelInputError(
                f"consistency: {name}[{utterance}] = {first} but {name}[{utterance + half}] = "
                f"{second}: expected two views of one utterance"
            )


def check_pair_targets(targets: Tensor, target_lengths: Tensor) -> None:
    """Refuse targets that differ between the views b and b + B of an utterance.

    Args:
        targets: (2B, U) on CPU.
        target_lengths: (2B,) on CPU, equal in both halves.

    Raises:
        KernelInputError: names the first utterance and position at fault.
    """
    half = targets.shape[0] // 2
    inside = torch.arange(targets.shape[1]) < target_lengths[:half].unsqueeze(1)
    wrong = inside & (targets[:half] != targets[half:])
    if bool(wrong.any()):
        utterance, position = wrong.nonzero()[0].tolist()
        raise KernelInputError(
            f"consistency: label {int(targets[utterance, position])} at position {position} of "
            f"utterance {utterance} but {int(targets[utterance + half, position])} in utterance "
            f"{utterance + half}: expected two views of one utterance"
        )
