"""The engine in Triton: what leaves a GPU's registers is read and written once.

Triton itself is imported with the kernels, when the first of them is needed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor

from kernels.ctc.engine import RowStatistics, Terms

MAX_LABELS: Final = 2047
"""Labels of an utterance: 8 neighbours in each of 256 lanes are 2048 blanks."""


class TritonEngine:
    """CTC's passes as Triton kernels; see :class:`kernels.ctc.engine.Engine`.

    All sums have a fixed order, so results are the same in every run. What changes from batch to
    batch (frames, utterances, lengths) compiles nothing anew; the longest target does when it
    passes 31, 63, 127, 255 and each doubling after.
    """

    def rows(
        self,
        logits: Tensor,
        columns: Tensor,
        utterances: Tensor,
        weights: Tensor | None,
        terms: Terms,
        *,
        out: Tensor | None,
    ) -> RowStatistics:
        """Read a chunk of logits once; see the protocol."""
        from kernels.ctc.triton_rows import measure_rows

        with _on(logits.device):
            return measure_rows(logits, columns, utterances, weights, terms, out)

    def lattice(
        self,
        emissions: Tensor,
        first_rows: Tensor,
        targets: Tensor,
        input_lengths: Tensor,
        target_lengths: Tensor,
        *,
        posteriors: bool,
        max_frames: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Return losses and posteriors; see the protocol.

        An utterance whose lengths exceed the tensors gets NaN and posteriors of 0.
        """
        from kernels.ctc.triton_posteriors import run_lattice

        with _on(emissions.device):
            return run_lattice(
                emissions.contiguous(),
                first_rows.contiguous(),
                targets.contiguous(),
                input_lengths.contiguous(),
                target_lengths.contiguous(),
                posteriors=posteriors,
                max_frames=max_frames,
            )

    def add_columns(
        self, grad: Tensor, columns: Tensor, utterances: Tensor, values: Tensor
    ) -> None:
        """Add values to the columns of each row; see the protocol."""
        from kernels.ctc.triton_columns import put_columns

        with _on(grad.device):
            put_columns(grad, columns, utterances, values)


ENGINE: Final = TritonEngine()


def unsupported(max_labels: int) -> str:
    """Return why the engine cannot take targets of this width; empty if it can."""
    if max_labels > MAX_LABELS:
        return f"targets of width {max_labels}, of which it takes {MAX_LABELS}"
    return ""


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Make a device current: Triton launches there, which need not be where the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
