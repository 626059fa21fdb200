"""Token sequences as a language model reads and predicts them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.encoders.masks import valid_frames
from core.contracts.noisy import Padded


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStream:
    """What goes in and what is to come out, for sequences of U tokens.

    For ``7 8`` beside a longer sequence of three, with start 0 and stop 1::

        inputs   0 7 8 1 1
        targets  7 8 1 1 1
        mask     1 1 1 0 0

    Args:
        inputs: (B, U + 2) int64: start, the tokens, stop from there on.
        targets: (B, U + 2) int64: the tokens, stop from there on.
        mask: (B, U + 2) bool, true for the tokens and the one stop after them: what counts.
        lengths: (B,) int64: inputs of a sequence that is alone in its batch, which are its tokens,
            start and stop.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    lengths: Tensor


def token_stream(tokens: Padded, *, start: int, stop: int) -> TokenStream:
    """Frame (B, U) int64 tokens by start and stop; what lies past a length becomes stop."""
    values, lengths = tokens.values, tokens.lengths
    rows, size = values.shape
    sequence = values.masked_fill(~valid_frames(lengths, size), stop)
    first = values.new_full((rows, 1), start)
    last = values.new_full((rows, 1), stop)
    return TokenStream(
        inputs=torch.cat([first, sequence, last], dim=1),
        targets=torch.cat([sequence, last, last], dim=1),
        mask=valid_frames(lengths + 1, size + 2),
        lengths=lengths + 2,
    )
