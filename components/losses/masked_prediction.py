"""Cross-entropy of the frames that were hidden."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from components.heads.multi_softmax import MultiSoftmaxHead
from core.errors import ConfigError
from core.registry import register
from kernels.dispatch import choose
from kernels.errors import BackendError
from kernels.masked_ce import masked_cross_entropy


class MaskedPredictionOutput(NamedTuple):
    """Sums over counted frames and codebooks.

    Args:
        total: () negative log-likelihood, differentiable.
        correct: () int64 targets that are the most likely class.
    """

    total: Tensor
    correct: Tensor


@register("loss", "masked_prediction")
class MaskedPredictionLoss(nn.Module):
    """Cross-entropy of counted frames alone, for any number of codebooks (Chiu et al. 2022).

    A target stands for several input frames; it counts where more than ``mask_threshold`` of them
    were masked (NEST: 7 of 8). A batch in which none counts has loss 0 with gradient 0, where
    NeMo's is NaN.

    Args:
        mask_threshold: share of a target's frames that must be exceeded.
        backend: of :func:`kernels.masked_ce.masked_cross_entropy`.
    """

    def __init__(
        self,
        *,
        mask_threshold: float = 0.8,
        backend: Literal["auto", "reference", "torch", "triton"] = "auto",
    ) -> None:
        super().__init__()
        if not 0.0 <= mask_threshold < 1.0:
            raise ConfigError(
                f"masked_prediction: mask_threshold must be in [0, 1), found {mask_threshold}"
            )
        self.mask_threshold = mask_threshold
        self.backend = backend

    def describe(self, device: torch.device) -> str:
        """Return which implementation runs on a device and why. Raises ConfigError."""
        try:
            choice = choose("masked_cross_entropy", self.backend, device)
        except BackendError as error:
            raise ConfigError(f"loss backend: {error}") from error
        return f"masked_cross_entropy, backend {choice}"

    def counted(self, mask: Tensor, *, stack: int) -> Tensor:
        """Return which targets count, (B, ceil(T / stack)) bool.

        Args:
            mask: (B, T) bool, masked frames.
            stack: frames behind one target.
        """
        missing = -mask.shape[1] % stack
        padded = torch.nn.functional.pad(mask, (0, missing))
        shares: Tensor = padded.unflatten(1, (-1, stack)).float().mean(-1)
        return shares > self.mask_threshold

    def forward(
        self, hidden: Tensor, head: MultiSoftmaxHead, targets: Tensor, counted: Tensor
    ) -> MaskedPredictionOutput:
        """Return the summed loss and the number of targets that were guessed.

        Args:
            hidden: (B, T, D) encoder output.
            head: its ``weight`` (C, V, D) and ``bias`` give the logits.
            targets: (B, T, C) int64 ids.
            counted: (B, T) bool; best on the host, so that only these rows are computed.
        """
        result = masked_cross_entropy(
            hidden,
            head.weight,
            head.bias,
            targets,
            counted,
            reduction="sum",
            backend=self.backend,
            with_statistics=True,
        )
        return MaskedPredictionOutput(result.loss, result.correct.sum())
