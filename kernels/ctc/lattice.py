"""The lattice of CTC by the framework's own op for CPU, on an utterance's columns alone."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.ctc.batch import first_columns

IMPOSSIBLE: Final = -1e30
"""Log-probability that stands for -inf where the framework's op would turn that into NaN."""


def aten_lattice(
    emissions: Tensor,
    first_rows: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    *,
    posteriors: bool,
    max_frames: int,
) -> tuple[Tensor, Tensor | None]:
    """Run the framework's CPU op in float64 on the utterances' own columns.

    The op sees S classes, the slots of the distinct labels, whatever the size of the vocabulary.
    Its backward pass returns exp(log-probability) minus posterior. See :meth:`Engine.lattice`.
    """
    frames = max(1, max_frames)
    steps = torch.arange(frames)
    rows = first_rows.unsqueeze(0) + steps.unsqueeze(1)
    padded = emissions[rows.clamp_(max=emissions.shape[0] - 1)].to(torch.float64)
    padded.clamp_(min=IMPOSSIBLE)
    slots = label_slots(targets, target_lengths)
    labels = slots if slots.shape[1] else slots.new_zeros((slots.shape[0], 1))
    # The op does not take lengths of 0 frames: such an utterance is given one, and its loss here.
    lengths = (input_lengths.clamp(min=1).tolist(), target_lengths.tolist())
    nll, log_alpha = torch.ops.aten._ctc_loss(padded, labels, *lengths)
    empty = torch.where(target_lengths == 0, 0.0, torch.inf).to(nll.dtype)
    losses = torch.where(input_lengths == 0, empty, nll)
    losses = torch.where(losses > -0.1 * IMPOSSIBLE, torch.inf, losses).abs_()
    if not posteriors:
        return losses.to(emissions.dtype), None
    excess = torch.ops.aten._ctc_loss_backward(
        torch.ones_like(nll), padded, labels, *lengths, nll, log_alpha, 0
    )
    found = padded.exp_().sub_(excess)
    found.masked_fill_(losses.isposinf().view(1, -1, 1), 0.0)
    inside = steps.unsqueeze(1) < input_lengths
    result = torch.zeros_like(emissions)
    result[rows[inside]] = found[inside].to(emissions.dtype)
    return losses.to(emissions.dtype), result


def label_slots(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return (B, U) the column of each label, 1 + its first position; 0 beyond a length."""
    positions = torch.arange(targets.shape[1], device=targets.device)
    inside = positions < target_lengths.unsqueeze(1)
    labels = torch.where(inside, targets, -1)
    return first_columns(torch.nn.functional.pad(labels, (1, 0), value=-1))[:, 1:]
