"""What a backend has to provide for CTC: three passes, from which the ops are composed.

Frames are rows here: the valid frames of all utterances one after another, (N, .), or all frames
(N = B * T) where packing would make the host wait for the device. S = U + 1 is the number of
columns of an utterance: column 0 is the blank and column 1 + j the label ``targets[b, j]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Options of the loss that are the same for all utterances of a call.

    The loss of an utterance is, in nats, with p the softmax of a frame over V::

        (1 - label_smoothing) * CTC
          + label_smoothing * sum_t -mean_v log p_tv      (Szegedy et al. 2016, section 7)
          - entropy_bonus * sum_t H(p_t)                  (Pereyra et al. 2017, equation 1)
          + consistency * sum_t KL(q_t || p_t)            (Yao et al. 2024, CR-CTC, equation 3)

    where q is the softmax of the other view of the same utterance, taken as constant. In a batch
    of 2B utterances b and b + B are such views. ``blank_penalty`` is taken from the logit of the
    blank before the softmax.
    """

    blank: int = 0
    label_smoothing: float = 0.0
    entropy_bonus: float = 0.0
    blank_penalty: float = 0.0
    consistency: float = 0.0

    @property
    def regularised(self) -> bool:
        """Whether the loss has terms beside CTC."""
        return bool(self.label_smoothing or self.entropy_bonus or self.consistency)


class RowStatistics(NamedTuple):
    """What one pass over logits yields for each row, float32 (float64 for float64 logits).

    Args:
        emissions: (n, S) log-probabilities of the utterance's columns.
        regulariser: (n,) the loss terms of the row beside CTC; (0,) without such terms.
        entropy: (n,) of the row's distribution in nats; (0,) without an entropy bonus.
    """

    emissions: Tensor
    regulariser: Tensor
    entropy: Tensor


class Engine(Protocol):
    """The passes; all are deterministic, none makes the host wait for the device."""

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
        """Read a chunk of logits once: log-softmax at each row's columns, and the dense gradient.

        Args:
            logits: (n, V) contiguous float16, bfloat16, float32 or float64, without the blank
                penalty. With ``terms.consistency`` rows i and i + n / 2 are two views of a frame.
            columns: (B, S) int64 labels in [0, V); beyond an utterance's length the blank.
            utterances: (n,) int64, the utterance of each row.
            weights: (n,) factor of each row's gradient, float32 (float64 for float64 logits), 0
                for padding, NaN where there is no gradient to give; None for statistics alone.
            terms: options of the loss.
            out: (n, V) receives, if ``weights`` is given, the gradient with respect to logits of
                the whole loss, in which every column of the row's utterance is exactly 0 (see
                :meth:`lattice` for why); may be ``logits`` itself. A row of weight 0 becomes 0
                whatever its logits.
        """
        ...

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
        """Return each utterance's negative log-likelihood and its posteriors by column.

        The gradient of CTC with respect to logits is softmax minus posterior. Only an utterance's
        own columns have a posterior, so the softmax elsewhere needs no lattice and can go through
        the projection's backward pass before one is known. The two parts must meet before they
        are rounded: for a confident model softmax and posterior are both close to 1.

        Args:
            emissions: (N, S) natural logarithms, float32 or float64; -inf allowed.
            first_rows: (B,) int64 row of each utterance's first frame; its others follow.
            targets: (B, U) int64; what lies beyond a length is never read as a label.
            input_lengths: (B,) int64, 0 allowed.
            target_lengths: (B,) int64, 0 allowed.
            posteriors: whether to return them.
            max_frames: at least the largest input length, without a look at the device.

        Returns:
            (B,) losses of the dtype of emissions, inf without an alignment (T = 0 and U = 0 is an
            alignment: 0); and (N, S) posteriors or None: column 0 is the blank, column 1 + j the
            label ``targets[b, j]`` in all its positions if j is the first of them, else 0; 0 in
            rows of no utterance and of utterances without an alignment.
        """
        ...

    def add_columns(
        self,
        grad: Tensor,
        columns: Tensor,
        utterances: Tensor,
        values: Tensor,
    ) -> None:
        """Add (n, S) values to the columns of each row of (n, V) ``grad``, in place.

        At most one of the columns of a row with the same label has a value other than 0, and
        ``grad`` is 0 there.
        """
        ...
