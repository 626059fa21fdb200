"""Targets that are one concatenated vector, brought into the padded form."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.transfers import to_device


@torch.library.custom_op(
    "sori::ctc_pad_targets", mutates_args=(), schema="(Tensor targets, Tensor lengths) -> Tensor"
)
def pad_targets(targets: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, U) int64 targets with U the largest length; 0 fills what is beyond a length.

    Args:
        targets: (sum of lengths,) integers.
        lengths: (B,) integers; if they are not on CPU, the host waits for them.

    Raises:
        KernelInputError: a length is negative, or their sum is not the number of targets.
    """
    known = lengths.to("cpu", torch.int64)
    for utterance, length in enumerate(known.tolist()):
        if length < 0:
            raise KernelInputError(f"target_lengths[{utterance}] = {length}: expected at least 0")
    if int(known.sum()) != targets.shape[0]:
        raise KernelInputError(
            f"targets: {targets.shape[0]} concatenated labels, but target_lengths add up to "
            f"{int(known.sum())}"
        )
    inside = torch.arange(max(known.tolist())) < known.unsqueeze(1)
    padded = targets.new_zeros(inside.shape, dtype=torch.int64)
    places = inside.flatten().nonzero().squeeze(1)
    padded.view(-1)[to_device(places, targets.device)] = targets.to(torch.int64)
    return padded


@pad_targets.register_fake
def _(targets: Tensor, lengths: Tensor) -> Tensor:
    longest = torch.library.get_ctx().new_dynamic_size()
    return targets.new_empty((lengths.shape[0], longest), dtype=torch.int64)
