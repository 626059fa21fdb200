"""The engine in torch operations: any device, nothing to compile."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.ctc.engine import RowStatistics, Terms
from kernels.ctc.lattice import aten_lattice
from kernels.ctc.passes import clear_rows
from kernels.ctc.regularisers import regularised_rows
from kernels.ctc.stepwise import stepwise_lattice
from kernels.dtypes import accumulation_dtype


class TorchEngine:
    """CTC's passes as sweeps of torch operations; see :class:`kernels.ctc.engine.Engine`.

    A lattice in float64 costs little beside the passes over logits: its recursion adds thousands
    of nats over an utterance, of which float32 would lose the digits that posteriors are made of.
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
        places = columns.index_select(0, utterances)
        if weights is None or out is None:
            work = _logits(logits, terms)
            if terms.regularised:
                return regularised_rows(work, places, terms, gradient=False)
            nothing = work.new_empty(0)
            return RowStatistics(work.log_softmax(dim=1).gather(1, places), nothing, nothing)
        work = _logits(logits, terms, into=out)
        if terms.regularised:
            found = regularised_rows(work, places, terms, gradient=True)
        else:
            found = _softmax_rows(work, places)
        work.mul_(weights.unsqueeze(1))
        clear_rows(work, weights)
        work.scatter_(1, places, 0.0)
        if work is not out:
            out.copy_(work)
        return found

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
        """Return losses and posteriors; see the protocol."""
        run = aten_lattice if emissions.device.type == "cpu" else stepwise_lattice
        return run(
            emissions,
            first_rows,
            targets,
            input_lengths,
            target_lengths,
            posteriors=posteriors,
            max_frames=max_frames,
        )

    def add_columns(
        self, grad: Tensor, columns: Tensor, utterances: Tensor, values: Tensor
    ) -> None:
        """Add values to the columns of each row; see the protocol."""
        # Adding zeros for the repeated labels commutes: the sum does not depend on the order.
        places = columns.index_select(0, utterances)
        grad.scatter_add_(1, places, values.to(grad.dtype))


ENGINE: Final = TorchEngine()


def _logits(logits: Tensor, terms: Terms, *, into: Tensor | None = None) -> Tensor:
    """Return logits with the blank penalty, float32 or float64.

    With ``into`` they may be overwritten, and are ``into`` itself where its dtype allows it.
    """
    wide = accumulation_dtype(logits.dtype)
    if into is not None and into.dtype == wide:
        work = into if into.data_ptr() == logits.data_ptr() else into.copy_(logits)
    else:
        work = logits.to(wide)
    if terms.blank_penalty:
        if into is None and work is logits:
            work = logits.clone()
        work[:, terms.blank] -= terms.blank_penalty
    return work


def _softmax_rows(work: Tensor, places: Tensor) -> RowStatistics:
    """Turn logits into probabilities in place, for which each is read as few times as possible."""
    normaliser = work.amax(dim=1, keepdim=True)
    chosen = work.gather(1, places)
    torch.softmax(work, dim=1, out=work)
    # The largest probability is 1 / sum exp(z - max): it gives back log sum exp z.
    normaliser -= work.amax(dim=1, keepdim=True).log_()
    nothing = work.new_empty(0)
    return RowStatistics(chosen.sub_(normaliser), nothing, nothing)
