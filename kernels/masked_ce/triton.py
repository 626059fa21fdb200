"""The pass over logits as one Triton program a row: one read, one write in place."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.dtypes import accumulation_dtype
from kernels.masked_ce.engine import RowResults
from kernels.masked_ce.triton_rows import fits_registers, launch_options, resident, streamed


class TritonEngine:
    """Keeps a row in registers up to 8,192 classes, reads it twice beyond."""

    def bytes_per_logit(self, dtype: torch.dtype) -> int:
        """There is nothing beside the logits."""
        return dtype.itemsize

    def rows(
        self,
        logits: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        *,
        gradient: bool,
    ) -> RowResults:
        """See :class:`kernels.masked_ce.engine.Engine`."""
        rows, vocabulary = logits.shape
        losses = torch.empty(rows, dtype=accumulation_dtype(logits.dtype), device=logits.device)
        hits = torch.empty(rows, dtype=torch.int32, device=logits.device)
        itemsize = logits.dtype.itemsize
        kernel = resident if fits_registers(vocabulary, itemsize) else streamed
        block, warps = launch_options(vocabulary, itemsize)
        # Triton launches on the current device, which need not be that of the tensors.
        with torch.cuda.device_of(logits):
            kernel[(rows,)](
                logits,
                targets.contiguous(),
                None if weights is None else weights.contiguous(),
                losses,
                hits,
                VOCABULARY=vocabulary,
                BLOCK=block,
                GRADIENT=gradient,
                num_warps=warps,
            )
        return RowResults(losses, hits.ne(0))


ENGINE: Final = TritonEngine()
