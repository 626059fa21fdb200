"""Masked-token prediction over C codebooks: the loss of NEST and BEST-RQ, on masked frames only."""

from kernels.masked_ce.op import MaskedLoss, masked_cross_entropy

__all__ = ["MaskedLoss", "masked_cross_entropy"]
