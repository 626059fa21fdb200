"""The utterances of a call: which frames are rows, which columns an utterance has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.ctc import content
from kernels.ctc.arguments import Labels
from kernels.ctc.options import Options


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Targets and lengths on the device, and the rows that a pass over frames visits.

    Rows are the valid frames where the host knows the lengths, else all frames, so that it need
    not wait for the device. With two views of each utterance, row i and row i + N / 2 are the
    same frame of an utterance's two views.

    Args:
        shape: (B, T).
        views: 2 if utterances b and b + B / 2 are views of each other, else 1.
        targets: (B, U) int64; the blank beyond a length and in place of a wrong label.
        columns: (B, 1 + U) int64, the blank and the targets.
        slots: (B, 1 + U) int64, first column with the same label as each column.
        input_lengths: (B,) int64 in [0, T].
        target_lengths: (B,) int64 in [0, U].
        broken: (B,) bool, utterances whose lengths or labels are wrong.
        repeats: (B,) int64, labels that equal the one before, which a blank must separate.
        feasible: (B,) bool, utterances that have an alignment unless logits forbid it.
        frames: (N,) int64 index of each row in (B * T), or None if rows are all frames.
        utterances: (N,) int64 utterance of each row.
        first_rows: (B,) int64 row of each utterance's first frame.
        padding: (B * T,) bool, or None if the host knows that there is none.
        max_frames: at least the largest input length.
    """

    shape: tuple[int, int]
    views: int
    targets: Tensor
    columns: Tensor
    slots: Tensor
    input_lengths: Tensor
    target_lengths: Tensor
    broken: Tensor
    repeats: Tensor
    feasible: Tensor
    frames: Tensor | None
    utterances: Tensor
    first_rows: Tensor
    padding: Tensor | None
    max_frames: int

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return self.utterances.shape[0]

    def chunks(self, limit: int) -> Iterator[Chunk]:
        """Cut the rows into chunks of equal size, each of at most ``limit`` rows or one frame."""
        frames = self.rows // self.views
        count = math.ceil(frames / max(1, limit // self.views))
        size = math.ceil(frames / max(1, count))
        for start in range(0, frames, max(1, size)):
            yield Chunk(batch=self, start=start, stop=min(start + size, frames))

    def live(self, values: Tensor) -> Tensor:
        """Return (N,) the value of each row's utterance, 0 in padding, from (B,) values."""
        rows = values[self.utterances]
        if self.frames is None and self.padding is not None:
            return rows.masked_fill(self.padding, 0.0)
        return rows

    def unpack(self, values: Tensor) -> Tensor:
        """Return (B, T, ...) with 0 in padding from (N, ...) values of the rows."""
        shape = (*self.shape, *values.shape[1:])
        if self.frames is not None:
            places: Tensor = values.new_zeros(shape)
            places.flatten(0, 1).index_copy_(0, self.frames, values)
            return places
        if self.padding is not None:
            padding = self.padding.view(-1, *(1 for _ in values.shape[1:]))
            values = values.masked_fill(padding, 0.0)
        return values.reshape(shape)

    def pack(self, values: Tensor) -> Tensor:
        """Return the (N, ...) values of the rows from (B, T, ...)."""
        flat = values.flatten(0, 1)
        return flat if self.frames is None else flat.index_select(0, self.frames)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some frames of every view: rows ``start`` to ``stop`` of each view's rows."""

    batch: Batch
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows, over all views."""
        return (self.stop - self.start) * self.batch.views

    def of(self, values: Tensor) -> Tensor:
        """Return the chunk's rows of (N, ...) values, a view of them where that is possible."""
        if self.batch.views == 1:
            return values[self.start : self.stop]
        views: Tensor = values.unflatten(0, (self.batch.views, -1))
        return views[:, self.start : self.stop].flatten(0, 1)

    def store(self, values: Tensor, out: Tensor) -> None:
        """Write the chunk's rows to their places in (N, ...) ``out``."""
        views = self.batch.views
        out.unflatten(0, (views, -1))[:, self.start : self.stop] = values.unflatten(0, (views, -1))

    def frames(self) -> Tensor:
        """Return the (n,) index in (B * T) of the chunk's rows."""
        if self.batch.frames is not None:
            return self.of(self.batch.frames)
        return self.of(torch.arange(self.batch.rows, device=self.batch.utterances.device))

    def take(self, frames: Tensor) -> Tensor:
        """Return the chunk's rows of (B * T, ...) values of all frames."""
        if self.batch.frames is None:
            return self.of(frames)
        return frames.index_select(0, self.of(self.batch.frames))

    def put(self, values: Tensor, out: Tensor) -> None:
        """Write the chunk's rows to their places in (B * T, ...) ``out``."""
        if self.batch.frames is None:
            self.store(values, out)
        else:
            out.index_copy_(0, self.of(self.batch.frames), values.to(out.dtype))


def prepare(shape: tuple[int, int], classes: int, labels: Labels, options: Options) -> Batch:
    """Bring the targets and lengths of a call to the device, and check what the host knows.

    Args:
        shape: (B, T).
        classes: V.
        labels: padded targets, and lengths.
        options: of the call; ``validate`` decides whether the host reads what is on the device.

    Raises:
        KernelInputError: names the utterance and position at fault.
    """
    targets = labels.targets
    device = targets.device
    _check(shape[1], classes, labels, options)
    known = labels.input_lengths if labels.input_lengths.device.type == "cpu" else None
    input_lengths = _to_device(labels.input_lengths.to(torch.int64), device)
    target_lengths = _to_device(labels.target_lengths.to(torch.int64), device)
    broken = (input_lengths < 0) | (input_lengths > shape[1])
    broken |= (target_lengths < 0) | (target_lengths > targets.shape[1])
    input_lengths = input_lengths.clamp(0, shape[1])
    target_lengths = target_lengths.clamp(0, targets.shape[1])
    blank = options.terms.blank
    positions = torch.arange(targets.shape[1], device=device)
    inside = positions < target_lengths.unsqueeze(1)
    wrong = inside & ((targets < 0) | (targets >= classes) | (targets == blank))
    broken |= wrong.any(dim=1)
    views = 2 if options.terms.consistency else 1
    targets = torch.where(inside & ~wrong, targets.to(torch.int64), blank)
    if views == 2:
        broken |= _unequal_views(targets, input_lengths, target_lengths)
    columns = torch.cat([targets.new_full((shape[0], 1), blank), targets], dim=1)
    repeats = ((targets[:, 1:] == targets[:, :-1]) & inside[:, 1:]).sum(dim=1)
    frames, utterances, first_rows, padding, longest = _rows(shape, known, input_lengths, device)
    return Batch(
        shape=shape,
        views=views,
        targets=targets,
        columns=columns,
        slots=first_columns(columns),
        input_lengths=input_lengths,
        target_lengths=target_lengths,
        broken=broken,
        repeats=repeats,
        feasible=input_lengths >= target_lengths + repeats,
        frames=frames,
        utterances=utterances,
        first_rows=first_rows,
        padding=padding,
        max_frames=longest,
    )


def first_columns(labels: Tensor) -> Tensor:
    """Return, for each of (B, S) labels, the lowest index of the same label in its row."""
    ordered, places = labels.sort(dim=1, stable=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ranks = torch.arange(labels.shape[1], device=labels.device)
    heads = torch.where(starts, ranks, 0).cummax(dim=1).values
    return torch.empty_like(places).scatter_(1, places, places.gather(1, heads))


def _check(frames: int, classes: int, labels: Labels, options: Options) -> None:
    """Check what the host can read; with ``validate``, all of it, for which it may wait."""
    reads_all = options.validate
    if reads_all is None:
        reads_all = labels.targets.device.type == "cpu"
    pairs = options.terms.consistency > 0
    for name, lengths, limit, what in (
        ("input_lengths", labels.input_lengths, frames, "the number of frames"),
        ("target_lengths", labels.target_lengths, labels.targets.shape[1], "the width of targets"),
    ):
        if reads_all or lengths.device.type == "cpu":
            content.check_lengths(name, lengths.cpu(), limit, what)
            if pairs:
                content.check_pair_lengths(name, lengths.cpu())
    if reads_all:
        targets, lengths = labels.targets.cpu(), labels.target_lengths.cpu()
        content.check_targets(targets, lengths, classes=classes, blank=options.terms.blank)
        if pairs:
            content.check_pair_targets(targets, lengths)


def _unequal_views(targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Return (B,) which utterances differ from their other view in a length or a label."""
    unequal = torch.zeros_like(input_lengths, dtype=torch.bool)
    unequal |= input_lengths != input_lengths.roll(input_lengths.shape[0] // 2)
    unequal |= target_lengths != target_lengths.roll(target_lengths.shape[0] // 2)
    return unequal | (targets != targets.roll(targets.shape[0] // 2, dims=0)).any(dim=1)


def _rows(
    shape: tuple[int, int], known: Tensor | None, lengths: Tensor, device: torch.device
) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None, int]:
    """Return the frames, utterances, first rows, padding and max_frames of :class:`Batch`."""
    count, width = shape
    utterances = torch.arange(count, device=device).repeat_interleave(width)
    first_rows = torch.arange(count, device=device) * width
    padding = (torch.arange(width, device=device) >= lengths.unsqueeze(1)).flatten()
    if known is None:
        return None, utterances, first_rows, padding, width
    longest = int(known.max())
    if int(known.min()) == width:
        return None, utterances, first_rows, None, longest
    inside = (torch.arange(width) < known.unsqueeze(1)).flatten()
    frames = _to_device(inside.nonzero().squeeze(1), device)
    return frames, frames // max(1, width), lengths.cumsum(0) - lengths, padding, longest


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy small integers to a device; the host does not wait for it."""
    if values.device == device or device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
