"""CTC losses that hold neither log-probabilities nor their gradient: :mod:`kernels.ctc.op`."""

from kernels.ctc.op import CTCLosses, ctc_loss, linear_ctc_loss

__all__ = ["CTCLosses", "ctc_loss", "linear_ctc_loss"]
