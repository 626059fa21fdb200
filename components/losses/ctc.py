"""Connectionist temporal classification over a head's vocabulary."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.contracts import Head
from core.errors import DataError
from core.registry import register

BLANK = 0
"""Id of the CTC blank, by the contract of the tokenizers."""


class CTCOutput(NamedTuple):
    """What :class:`CTCLoss` returns.

    Args:
        losses: (B,) negative log-likelihoods in nats, exactly 0 where ``feasible`` is False.
        feasible: (B,) bool, True where the frames can hold the targets.
    """

    losses: Tensor
    feasible: Tensor


@register("loss", "ctc")
class CTCLoss(nn.Module):
    """CTC negative log-likelihood of each utterance (Graves et al. 2006, eq. 8); blank is id 0.

    The loss takes hidden states and the head rather than logits, so that an implementation may
    fuse the projection with the loss and never hold (B, T, V) in memory. Log-softmax and lattice
    run in float32 whatever the autocast state (in float64 for float64 logits).

    An utterance with fewer frames than CTC needs has no alignment and an infinite loss. It is
    reported in ``feasible`` and contributes a loss and a gradient of exactly 0. Any other infinite
    or NaN loss is a numerical failure and is passed on, not hidden.
    """

    def __init__(self) -> None:  # nn.Module's own takes any argument, also a mistyped one.
        super().__init__()

    def forward(
        self, hidden: Tensor, head: Head, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> CTCOutput:
        """Return the loss of each utterance.

        Args:
            hidden: (B, T, D) encoder output.
            head: projection to (B, T, V) logits.
            lengths: (B,) int64, valid frames.
            targets: (B, U) int64 ids in 1..V-1; what lies beyond a length is ignored.
            target_lengths: (B,) int64, valid targets, 0 allowed.

        Raises:
            DataError: a target is not in 1..V-1. On CUDA this is a device assertion instead, since
                reading the ids on the host would make the host wait.
        """
        if hidden.shape[1] == 0:  # every utterance is shorter than a frame
            hidden = F.pad(hidden, (0, 0, 0, 1))
        logits = head(hidden)
        targets = _ignore_padding(targets, target_lengths)
        _check_targets(targets, target_lengths, vocab_size=logits.shape[-1])
        feasible = self.feasible(lengths, targets, target_lengths)
        with torch.autocast(logits.device.type, enabled=False):
            dtype = torch.promote_types(logits.dtype, torch.float32)
            log_probs = logits.log_softmax(dim=-1, dtype=dtype).transpose(0, 1)
            losses = F.ctc_loss(
                log_probs,
                targets,
                # Stand-ins with a finite loss: 0 * inf is NaN in the backward pass.
                lengths.clamp(min=1),
                target_lengths.where(feasible, torch.zeros_like(target_lengths)),
                blank=BLANK,
                reduction="none",
            )
        counted = feasible & (lengths > 0)
        return CTCOutput(losses.where(counted, torch.zeros_like(losses)), feasible)

    @staticmethod
    def feasible(lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Say which utterances have an alignment, without a forward pass.

        CTC needs a frame for each target and one for the blank between equal neighbours.

        Args:
            lengths: (B,) int64, valid frames.
            targets: (B, U) int64.
            target_lengths: (B,) int64.

        Returns:
            (B,) bool; True for no targets, whatever the number of frames.
        """
        positions = torch.arange(1, max(targets.shape[1], 1), device=targets.device)
        inside = positions < target_lengths.unsqueeze(1)
        repeats = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(dim=1)
        return lengths >= target_lengths + repeats


def _ignore_padding(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Zero what lies beyond each length; the result has at least one column."""
    positions = torch.arange(targets.shape[1], device=targets.device)
    targets = targets.masked_fill(positions >= target_lengths.unsqueeze(1), BLANK)
    return targets if targets.shape[1] else F.pad(targets, (0, 1))


def _check_targets(targets: Tensor, target_lengths: Tensor, *, vocab_size: int) -> None:
    """Refuse ids that the native kernels would use as an index into foreign memory."""
    positions = torch.arange(targets.shape[1], device=targets.device)
    inside = positions < target_lengths.unsqueeze(1)
    wrong = inside & ((targets <= BLANK) | (targets >= vocab_size))
    if targets.is_cuda or torch.compiler.is_compiling():
        torch._assert_async(~wrong.any(), f"CTC target ids must lie in 1..{vocab_size - 1}")
    elif bool(wrong.any()):
        row, column = (int(index) for index in wrong.nonzero()[0])
        raise DataError(
            f"CTC target {column} of utterance {row} in the batch is {int(targets[row, column])}, "
            f"but target ids must lie in 1..{vocab_size - 1} (0 is the blank, the head has "
            f"{vocab_size} outputs); is the tokenizer the one that the head was made for?"
        )
