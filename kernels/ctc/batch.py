"""The utterances of a call: which frames are rows, which columns an utterance has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from kernels.ctc import content
from kernels.ctc.arguments import Labels
from kernels.ctc.feasible import count_repeats
from kernels.ctc.options import Options
from kernels.transfers import to_device

TILE: Final = 64
"""Rows that a matrix product takes at a time."""

PAIRS: Final = 1 << 24
"""Pairs of columns that are compared at once, one byte each; of more, columns are sorted."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Targets and lengths on the device, and the rows that a pass over frames visits.

    Rows are the valid frames where the host knows the lengths, else all frames, so that it need
    not wait for the device. With two views of each utterance, row i and row i + N / 2 are the
    same frame of an utterance's two views.

    Args:
        shape: (B, T).
        views: 2 if utterances b and b + B / 2 are views of each other, else 1.
        columns: (B, 1 + U) int64, the blank and the targets; the blank beyond a length, and some
            class in place of a wrong label.
        inside: (B, U) bool, targets within a length.
        repeated: (B, 1 + U) bool, columns with the same label as an earlier one.
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
    columns: Tensor
    inside: Tensor
    repeated: Tensor
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

    @property
    def targets(self) -> Tensor:
        """(B, U) int64 labels."""
        return self.columns[:, 1:]

    def chunks(self, limit: int) -> Iterator[Chunk]:
        """Cut the rows into chunks of about equal size, each of at most ``limit`` rows.

        There are at least the rows of one frame in a chunk, and a multiple of the tiles of matrix
        products where the limit leaves room for them.
        """
        frames = self.rows // self.views
        limit = max(1, limit // self.views)
        tile = min(TILE, limit)
        limit -= limit % tile
        size = max(1, math.ceil(frames / max(1, math.ceil(frames / limit))))
        size += -size % tile
        for start in range(0, frames, size):
            yield Chunk(batch=self, start=start, stop=min(start + size, frames))

    def live(self, values: Tensor) -> Tensor:
        """Return (N,) the value of each row's utterance, 0 in padding, from (B,) values."""
        if self.frames is not None:
            return values[self.utterances]
        spread = values.unsqueeze(1).expand(self.shape)
        if self.padding is not None:
            spread = spread.masked_fill(self.padding.view(self.shape), 0.0)
        return spread.reshape(-1)

    def unpack(self, values: Tensor) -> Tensor:
        """Return (B, T, ...) from (N, ...) values of the rows; padding that has no rows is 0."""
        shape = (*self.shape, *values.shape[1:])
        if self.frames is None:
            return values.view(shape)
        places: Tensor = values.new_zeros(shape)
        places.flatten(0, 1).index_copy_(0, self.frames, values)
        return places

    def without_padding(self, values: Tensor) -> Tensor:
        """Return (N, ...) values of rows with 0 in those of padding."""
        if self.padding is None or self.frames is not None:
            return values
        return values.masked_fill(self.padding.view(-1, *(1 for _ in values.shape[1:])), 0.0)

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

    def place(self, out: Tensor) -> Tensor | None:
        """Return the chunk's rows of (B * T, ...) ``out`` as a view, if they follow each other."""
        apart = self.batch.frames is not None or self.batch.views > 1
        return None if apart else out[self.start : self.stop]

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
        KernelInputError: names the utterance and position at fault; LabelError for a label.
    """
    _check_lengths(shape[1], labels, options, reads_all=False)
    device = labels.targets.device
    width, blank = labels.targets.shape[1], options.terms.blank
    known = labels.input_lengths if labels.input_lengths.device.type == "cpu" else None
    given = (
        to_device(labels.input_lengths.to(torch.int64), device),
        to_device(labels.target_lengths.to(torch.int64), device),
    )
    input_lengths, target_lengths = given[0].clamp(0, shape[1]), given[1].clamp(0, width)
    inside = torch.arange(width, device=device) < target_lengths.unsqueeze(1)
    labelled = torch.where(inside, labels.targets.to(torch.int64), blank)
    targets = labelled.clamp(0, classes - 1)
    # The blank stands in padding and nowhere else, and nothing had to be brought into range.
    wrong = ((labelled == blank) == inside) | (labelled != targets)
    broken = wrong.any(dim=1)
    if known is None or labels.target_lengths.device.type != "cpu":
        broken |= (given[0] != input_lengths) | (given[1] != target_lengths)
    if options.terms.consistency:
        broken |= _unequal_views(targets, input_lengths, target_lengths)
    reads = device.type == "cpu" if options.validate is None else options.validate
    if reads and bool(broken.any()):
        _refuse(shape[1], classes, labels, options)
    columns = torch.nn.functional.pad(targets, (1, 0), value=blank)
    repeats = count_repeats(targets, inside)
    frames, utterances, first_rows, padding, longest = _rows(shape, known, input_lengths, device)
    return Batch(
        shape=shape,
        views=2 if options.terms.consistency else 1,
        columns=columns,
        inside=inside,
        repeated=repeated_columns(columns),
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


def repeated_columns(labels: Tensor) -> Tensor:
    """Return (B, S) whether a label has an equal one before it in its row."""
    count, width = labels.shape
    if count * width * width <= PAIRS:
        return (labels.unsqueeze(2) == labels.unsqueeze(1)).tril_(-1).any(dim=2)
    return first_columns(labels) != torch.arange(width, device=labels.device)


def first_columns(labels: Tensor) -> Tensor:
    """Return, for each of (B, S) labels, the lowest index of the same label in its row."""
    ordered, places = labels.sort(dim=1, stable=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ranks = torch.arange(labels.shape[1], device=labels.device)
    heads = torch.where(starts, ranks, 0).cummax(dim=1).values
    return torch.empty_like(places).scatter_(1, places, places.gather(1, heads))


def _check_lengths(frames: int, labels: Labels, options: Options, *, reads_all: bool) -> None:
    """Refuse lengths that cannot be, of those on CPU or of all."""
    width = labels.targets.shape[1]
    for name, lengths, limit, what in (
        ("input_lengths", labels.input_lengths, frames, "the number of frames"),
        ("target_lengths", labels.target_lengths, width, "the width of targets"),
    ):
        if reads_all or lengths.device.type == "cpu":
            content.check_lengths(name, lengths.cpu(), limit, what)
            if options.terms.consistency:
                content.check_pair_lengths(name, lengths.cpu())


def _refuse(frames: int, classes: int, labels: Labels, options: Options) -> None:
    """Raise the error of what is wrong in some utterance."""
    _check_lengths(frames, labels, options, reads_all=True)
    targets, lengths = labels.targets.cpu(), labels.target_lengths.cpu()
    content.check_targets(targets, lengths, classes=classes, blank=options.terms.blank)
    if options.terms.consistency:
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
    utterances = torch.arange(count * width, device=device) // max(1, width)
    first_rows = torch.arange(count, device=device) * width
    padding = (torch.arange(width, device=device) >= lengths.unsqueeze(1)).flatten()
    if known is None:
        return None, utterances, first_rows, padding, width
    longest = int(known.max())
    if int(known.min()) == width:
        return None, utterances, first_rows, None, longest
    inside = (torch.arange(width) < known.unsqueeze(1)).flatten()
    frames = to_device(inside.nonzero().squeeze(1), device)
    return frames, frames // max(1, width), lengths.cumsum(0) - lengths, padding, longest
