"""Connectionist temporal classification over a head's vocabulary."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from core.contracts import Head
from core.errors import ConfigError, DataError
from core.registry import register
from kernels.ctc import linear_ctc_loss
from kernels.ctc.feasible import feasible
from kernels.dispatch import choose
from kernels.errors import BackendError, KernelInputError, LabelError

BLANK = 0
"""Id of the CTC blank, by the contract of the tokenizers."""


class CTCOutput(NamedTuple):
    """What :class:`CTCLoss` returns.

    Args:
        total: sum of the losses in nats; only it has a gradient.
        losses: (B,) what it sums, exactly 0 where ``feasible`` is False.
        feasible: (B,) bool, True where the frames can hold the targets.
    """

    total: Tensor
    losses: Tensor
    feasible: Tensor


@register("loss", "ctc")
class CTCLoss(nn.Module):
    """CTC negative log-likelihood of each utterance (Graves et al. 2006, eq. 8); blank is id 0.

    The head's last layer, the softmax and CTC are one op (:func:`kernels.ctc.linear_ctc_loss`),
    which never holds (B, T, V) in memory. Softmax and lattice run in float32 or better whatever
    the autocast state.

    An utterance with fewer frames than CTC needs has no alignment and an infinite loss. It is
    reported in ``feasible`` and contributes a loss and a gradient of exactly 0. Any other infinite
    or NaN loss is a numerical failure and is passed on, not hidden.

    The options act in training; evaluation reports plain CTC.

    Args:
        backend: implementation of the op; ``auto`` takes ``triton`` on CUDA, else ``torch``.
        label_smoothing: weight of the cross-entropy of every frame with the uniform distribution
            (Szegedy et al. 2016, section 7); CTC has the rest of the weight.
        entropy_bonus: nats that a nat of a frame's entropy takes from the loss (Pereyra et al.
            2017, equation 1), against peaky and overconfident models.
        blank_penalty: taken from the logit of the blank in training, which makes it dearer.
        consistency: weight of the divergence between two augmented views of each utterance (Yao et
            al. 2024, CR-CTC, equation 3), which the task encodes side by side; a step costs about
            twice the time and memory.
    """

    def __init__(
        self,
        *,
        backend: Literal["auto", "reference", "torch", "triton"] = "auto",
        label_smoothing: float = 0.0,
        entropy_bonus: float = 0.0,
        blank_penalty: float = 0.0,
        consistency: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ConfigError(f"label_smoothing must be in [0, 1), found {label_smoothing}")
        for name, value in (("entropy_bonus", entropy_bonus), ("consistency", consistency)):
            if value < 0.0:
                raise ConfigError(f"{name} must be at least 0, found {value}")
        self.backend = backend
        self.label_smoothing = label_smoothing
        self.entropy_bonus = entropy_bonus
        self.blank_penalty = blank_penalty
        self.consistency = consistency

    @property
    def views(self) -> int:
        """Views of each utterance that :meth:`forward` expects: 1, or 2 one after the other."""
        return 2 if self.training and self.consistency > 0 else 1

    def describe(self, device: torch.device) -> str:
        """Return which implementation runs on a device and why, for the run header.

        Raises:
            ConfigError: the configured backend cannot run there.
        """
        try:
            choice = choose("linear_ctc_loss", self.backend, device)
        except BackendError as error:
            raise ConfigError(f"loss backend: {error}") from error
        return f"linear_ctc_loss, backend {choice}"

    def forward(
        self, hidden: Tensor, head: Head, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> CTCOutput:
        """Return the summed loss and that of each utterance.

        With two :attr:`views` all arguments have 2B rows, of which b and b + B are one utterance.

        Args:
            hidden: (B, T, D) encoder output.
            head: its ``inputs``, ``weight`` and ``bias`` give (B, T, V) logits.
            lengths: (B,) int64, valid frames.
            targets: (B, U) int64 ids in 1..V-1; what lies beyond a length is ignored.
            target_lengths: (B,) int64, valid targets, 0 allowed.

        Raises:
            DataError: a target is not in 1..V-1. On CUDA the loss is NaN instead, since reading
                the ids on the host would make the host wait.
        """
        try:
            total, losses = linear_ctc_loss(
                head.inputs(hidden),
                head.weight,
                head.bias,
                targets,
                lengths,
                target_lengths,
                blank=BLANK,
                reduction="sum",
                zero_infinity=True,
                label_smoothing=self.label_smoothing if self.training else 0.0,
                entropy_bonus=self.entropy_bonus if self.training else 0.0,
                blank_penalty=self.blank_penalty if self.training else 0.0,
                consistency=self.consistency if self.training else 0.0,
                backend=self.backend,
                with_utterance_losses=True,
            )
        except LabelError as error:
            hint = "is the tokenizer the one that the head was made for?"
            raise DataError(f"CTC {error}; {hint}") from error
        except KernelInputError as error:
            raise DataError(f"CTC {error}") from error
        return CTCOutput(total, losses, self.feasible(lengths, targets, target_lengths))

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
        return feasible(lengths, targets, target_lengths)
