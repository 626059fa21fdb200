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
    count, frames = input_lengths.shape[0], max(1, max_frames)
    rows = [
        slice(first, first + length)
        for first, length in zip(first_rows.tolist(), input_lengths.tolist(), strict=True)
    ]
    # Copied by utterance: so small, a copy is not worth the threads that one for all would wake.
    padded = torch.empty((frames, count, emissions.shape[1]), dtype=torch.float64)
    for b, here in enumerate(rows):
        padded[: here.stop - here.start, b] = emissions[here].clamp(min=IMPOSSIBLE)
    slots = label_slots(targets, target_lengths)
    labels = slots if slots.shape[1] else slots.new_zeros((count, 1))
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
    complete = int(input_lengths.sum()) == emissions.shape[0]
    result = torch.empty_like(emissions) if complete else torch.zeros_like(emissions)
    for b, (here, impossible) in enumerate(zip(rows, losses.isposinf().tolist(), strict=True)):
        steps = slice(here.stop - here.start)
        result[here] = 0.0 if impossible else found[steps, b]
    return losses.to(emissions.dtype), result


def label_slots(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return (B, U) the column of each label, 1 + its first position; 0 beyond a length."""
    positions = torch.arange(targets.shape[1], device=targets.device)
    inside = positions < target_lengths.unsqueeze(1)
    labels = torch.where(inside, targets, -1)
    return first_columns(torch.nn.functional.pad(labels, (1, 0), value=-1))[:, 1:]
