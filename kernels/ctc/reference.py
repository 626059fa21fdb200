"""CTC by its equations in float64, one frame after the other; for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.ctc.engine import Terms

IMPOSSIBLE = -1e30
"""Logarithm of 0 in recursions: unlike -inf, its differences and gradients are defined."""


def losses(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    terms: Terms,
    *,
    zero_infinity: bool,
) -> Tensor:
    """Return (B,) losses in nats, float64, differentiable twice and more.

    Args:
        logits: (B, T, V).
        targets: (B, U) labels; what lies beyond a length is not read.
        input_lengths: (B,).
        target_lengths: (B,).
        terms: options of the loss.
        zero_infinity: whether an utterance without an alignment has a loss of 0.
    """
    penalty = torch.zeros(logits.shape[2], dtype=torch.float64, device=logits.device)
    penalty[terms.blank] = terms.blank_penalty
    logits = without_padding(logits.to(torch.float64), input_lengths)
    log_probs = torch.log_softmax(logits - penalty, dim=2)
    frames, counts = input_lengths.tolist(), target_lengths.tolist()
    rows = [log_probs[b, : frames[b]] for b in range(len(frames))]
    found = []
    for b, own in enumerate(rows):
        ctc = negative_log_likelihood(own, targets[b, : counts[b]].tolist(), terms.blank)
        if bool(ctc.isposinf()):
            found.append(ctc.new_zeros(()) if zero_infinity else _NoAlignment.apply(own))
            continue
        other = rows[(b + len(rows) // 2) % len(rows)].detach() if terms.consistency else None
        found.append((1 - terms.label_smoothing) * ctc + regulariser(own, other, terms))
    # The empty sum gives a loss that is constant a gradient of 0 like any other.
    return torch.stack(found) + log_probs[:0].sum()


def without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T, .) values with 0 in padding, which may hold NaN."""
    steps = torch.arange(values.shape[1], device=values.device)
    inside = steps < lengths.to(values.device).unsqueeze(1)
    return torch.where(inside.unsqueeze(2), values, 0.0)


def negative_log_likelihood(log_probs: Tensor, labels: list[int], blank: int) -> Tensor:
    """Return -log p(labels) of (T, V) log-probabilities (Graves et al. 2006, eq. 5 to 8).

    State s of 2U + 1 is a blank if it is even, else label s // 2.
    """
    extended = [blank, *(symbol for label in labels for symbol in (label, blank))]
    states = log_probs.new_full((len(extended),), IMPOSSIBLE)
    skips = torch.tensor(
        [s >= 2 and extended[s] not in (blank, extended[s - 2]) for s in range(len(extended))]
    )
    # Before the first frame a path stands before the first blank, from where it can enter both.
    start = torch.zeros_like(states[:1])
    pad = torch.full_like(states[:1], IMPOSSIBLE)
    for step, frame in enumerate(log_probs):
        scores = frame[extended].clamp(min=IMPOSSIBLE)
        if step == 0:
            states = torch.cat([start.expand(min(2, len(extended))), states[2:]]) + scores
            continue
        one = torch.cat([pad, states[:-1]])
        two = torch.where(
            skips.to(states.device), torch.cat([pad, pad, states])[: len(states)], IMPOSSIBLE
        )
        states = torch.logsumexp(torch.stack([states, one, two]), dim=0) + scores
    if len(log_probs) == 0:
        return states.new_zeros(()) if not labels else states.new_full((), torch.inf)
    total = -torch.logsumexp(states[-2:], dim=0)
    return torch.where(total > -0.1 * IMPOSSIBLE, torch.inf, total)


def regulariser(log_probs: Tensor, other: Tensor | None, terms: Terms) -> Tensor:
    """Return the terms of :class:`Terms` beside CTC of (T, V) log-probabilities."""
    probs = log_probs.exp()
    total = log_probs.new_zeros(())
    if terms.label_smoothing:
        total = total - terms.label_smoothing * log_probs.mean(dim=1).sum()
    if terms.entropy_bonus:
        finite = torch.where(probs == 0, 0.0, log_probs)
        total = total + terms.entropy_bonus * (probs * finite).sum()
    if other is not None:
        terms_of_kl = torch.where(other.isneginf(), 0.0, other.exp() * (other - log_probs))
        total = total + terms.consistency * terms_of_kl.sum()
    return total


class _NoAlignment(torch.autograd.Function):
    """The loss of an utterance without an alignment: inf, and NaN as its gradient."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(log_probs)
        return log_probs.new_full((), torch.inf)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        (log_probs,) = ctx.saved_tensors
        return (
            torch.full_like(log_probs, torch.nan) if bool(grad != 0) else grad.expand_as(log_probs)
        )
