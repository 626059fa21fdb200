"""The lattice of CTC on any device: all utterances advance by one frame per step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.ctc.lattice import label_slots


def stepwise_lattice(
    emissions: Tensor,
    first_rows: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    *,
    posteriors: bool,
    max_frames: int,
) -> tuple[Tensor, Tensor | None]:
    """Run the recursions of Graves et al. 2006 (equations 6 to 11) in the log domain.

    The backward recursion is the forward one on reversed labels and frames, so both are one batch
    of 2B. Nothing makes the host wait, and no sum depends on an order of execution. See
    :meth:`kernels.ctc.engine.Engine.lattice`.
    """
    slots = label_slots(targets, target_lengths)
    steps = torch.arange(max_frames, device=emissions.device).unsqueeze(1)
    rows = first_rows + torch.minimum(steps, (input_lengths - 1).clamp(min=0))
    paths = _paths(emissions, rows, slots, input_lengths, target_lengths)
    if not posteriors:
        losses, _ = _advance(paths, keep=False)
        return losses.to(emissions.dtype), None
    reverse_rows = first_rows + (input_lengths - 1 - steps).clamp(min=0)
    reverse_slots = slots.gather(1, _mirrored(target_lengths - 1, slots.shape[1]))
    reverse = _paths(emissions, reverse_rows, reverse_slots, input_lengths, target_lengths)
    both = _Paths(
        torch.cat([paths.scores, reverse.scores], dim=1),
        *(torch.cat([one, other]) for one, other in zip(paths[1:], reverse[1:], strict=True)),
    )
    losses, before = _advance(both, keep=True)
    losses = losses.chunk(2)[0]
    found = _posteriors(paths, before, losses, slots)
    inside = (steps < input_lengths) & losses.isfinite()
    # A step that is no frame goes to a row after the last, which is dropped.
    result = emissions.new_zeros((emissions.shape[0] + 1, emissions.shape[1]))
    places = torch.where(inside, rows, emissions.shape[0]).flatten()
    values = torch.where(inside.unsqueeze(2), found, 0.0).flatten(0, 1)
    result.index_copy_(0, places, values.to(emissions.dtype))
    return losses.to(emissions.dtype), result[:-1]


class _Paths(NamedTuple):
    """Utterances in the direction in which they advance.

    Args:
        scores: (T, B, S) log-probabilities of the blank, then of each label.
        skips: (B, S) whether label k may follow label k - 1 without a blank between.
        input_lengths: (B,).
        target_lengths: (B,).
    """

    scores: Tensor
    skips: Tensor
    input_lengths: Tensor
    target_lengths: Tensor


def _paths(
    emissions: Tensor, rows: Tensor, slots: Tensor, input_lengths: Tensor, target_lengths: Tensor
) -> _Paths:
    """Gather the scores of (T, B) rows; float64 unless the device has none."""
    wide = torch.float32 if emissions.device.type == "mps" else torch.float64
    columns = torch.nn.functional.pad(slots, (1, 0)).expand(rows.shape[0], -1, -1)
    # An utterance without frames may begin after the last row; what is read there is not used.
    scores = emissions[rows.clamp(max=emissions.shape[0] - 1)].gather(2, columns).to(wide)
    skips = torch.zeros_like(columns[0], dtype=torch.bool)
    skips[:, 1:-1] = slots[:, 1:] != slots[:, :-1]
    return _Paths(scores, skips, input_lengths, target_lengths)


def _advance(paths: _Paths, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Return (B,) losses and, with ``keep``, (T, B, 2 S - 1) states before each emission.

    A state is a logarithm: those of the blanks 0..U, where blank k precedes label k, then those
    of the labels.
    """
    scores, skips, input_lengths, target_lengths = paths
    frames, count, width = scores.shape
    blanks = scores.new_full((count, width), -torch.inf)
    blanks[:, 0] = 0.0
    labels = torch.full_like(blanks, -torch.inf)  # label k - 1 at k
    before = scores.new_empty((frames if keep else 0, count, 2 * width - 1))
    for step in range(frames):
        active = (step < input_lengths).unsqueeze(1)
        into_blanks = torch.logaddexp(blanks, labels)
        entering = torch.where(skips, into_blanks, blanks)[:, :-1]
        into_labels = torch.logaddexp(labels[:, 1:], entering)
        if keep:
            before[step, :, :width] = into_blanks
            before[step, :, width:] = into_labels
        blanks = torch.where(active, into_blanks + scores[step, :, :1], blanks)
        labels[:, 1:] = torch.where(active, into_labels + scores[step, :, 1:], labels[:, 1:])
    ends = target_lengths.unsqueeze(1)
    total = torch.logaddexp(blanks.gather(1, ends), labels.gather(1, ends)).squeeze(1)
    return -total, before


def _posteriors(paths: _Paths, before: Tensor, losses: Tensor, slots: Tensor) -> Tensor:
    """Return (T, B, S) posteriors by column from the states of both directions."""
    scores = paths.scores
    frames, _, width = scores.shape
    forward, backward = before.chunk(2, dim=1)
    times = _mirrored(paths.input_lengths - 1, frames).T.unsqueeze(2)
    backward = backward.gather(0, times.expand_as(backward))
    mirrored_blanks = _mirrored(paths.target_lengths, width)
    mirrored_labels = _mirrored(paths.target_lengths - 1, width - 1) + width
    mirrored = torch.cat([mirrored_blanks, mirrored_labels], dim=1)
    log_gamma = forward + backward.gather(2, mirrored.expand(frames, -1, -1))
    log_gamma[..., :width] += scores[..., :1]
    log_gamma[..., width:] += scores[..., 1:]
    log_gamma += losses.unsqueeze(1)
    positions = torch.arange(width, device=scores.device)
    inside = torch.cat([positions <= paths.target_lengths.unsqueeze(1), slots > 0], dim=1)
    gamma = torch.where(inside, log_gamma.exp(), 0.0)
    # A product with a 0-1 matrix adds up equal labels in an order that is always the same.
    merge = (slots.unsqueeze(2) == positions).to(gamma.dtype)
    found = torch.bmm(gamma[..., width:].transpose(0, 1), merge).transpose(0, 1)
    found[..., 0] = gamma[..., :width].sum(dim=2)
    return found


def _mirrored(lasts: Tensor, width: int) -> Tensor:
    """Return (B, width) indices that run from (B,) ``lasts`` down, 0 below."""
    return (lasts.unsqueeze(1) - torch.arange(width, device=lasts.device)).clamp(min=0)
