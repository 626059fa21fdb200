"""Which frames are computed: the masked ones where the host may know them, else more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.transfers import to_device


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Frames of a flattened batch, in which a frame occurs at most once.

    Args:
        index: (N,) int64 positions in B * T; None for all of them in order.
        masked: (N,) bool, which of them are masked; None if all are.
        count: () int64 number of masked frames of the batch.
        overflow: () bool, whether some masked frames are not among the rows; None if that is
            impossible.
    """

    index: Tensor | None
    masked: Tensor | None
    count: Tensor
    overflow: Tensor | None

    def select(self, tensor: Tensor) -> Tensor:
        """Return the rows of a (B * T, ...) tensor."""
        return tensor if self.index is None else tensor.index_select(0, self.index)

    def spread(self, rows: Tensor, frames: int) -> Tensor:
        """Return (frames, ...) with the rows at their positions and 0 elsewhere."""
        if self.index is None:
            return rows
        return rows.new_zeros(frames, *rows.shape[1:]).index_copy_(0, self.index, rows)

    def factors(self, value: float, dtype: torch.dtype) -> Tensor | None:
        """Return (N,) ``value`` for masked frames and 0 for others; None stands for ones."""
        if self.masked is not None:
            return self.masked.to(dtype).mul_(value)
        if value == 1.0:
            return None
        return torch.full((len(self),), value, dtype=dtype, device=self.count.device)

    def blank(self, rows: Tensor) -> Tensor:
        """Return (N, ...) with 0 in place of frames that are not masked."""
        if self.masked is None:
            return rows
        outside = ~self.masked
        return rows.masked_fill(outside.view(-1, *[1] * (rows.dim() - 1)), 0)

    def refuse(self, values: Tensor) -> Tensor:
        """Return NaN in place of values that lack the masked frames beyond the rows."""
        return values if self.overflow is None else values.masked_fill(self.overflow, torch.nan)

    def __len__(self) -> int:
        if self.masked is not None:
            return self.masked.numel()
        assert self.index is not None
        return self.index.numel()


def select_rows(mask: Tensor, device: torch.device, max_masked: int | None) -> Rows:
    """Choose rows without making the host wait for the device.

    Args:
        mask: (B, T) bool, on ``device`` or on the host.
        device: of the computation.
        max_masked: more masked frames than that are an overflow.
    """
    flat = mask.reshape(-1)
    if flat.device.type == "cpu":
        return rows_of_host_mask(flat, device, max_masked)
    return rows_of_device_mask(flat, max_masked)


def rows_of_host_mask(mask: Tensor, device: torch.device, max_masked: int | None) -> Rows:
    """Return exactly the masked frames of a (B * T,) mask, the first ``max_masked`` on overflow."""
    index = mask.nonzero().squeeze(1)
    count = torch.full((), index.numel(), device=device)
    overflow = None
    if max_masked is not None and index.numel() > max_masked:
        index = index[:max_masked]
        overflow = torch.ones((), dtype=torch.bool, device=device)
    return Rows(index=to_device(index, device), masked=None, count=count, overflow=overflow)


def rows_of_device_mask(mask: Tensor, max_masked: int | None) -> Rows:
    """Return ``max_masked`` frames, the masked ones first, or all frames without such a bound.

    How many are masked only the device knows, and how many rows there are must not depend on it.
    """
    count = mask.sum()
    if max_masked is None or max_masked >= mask.numel():
        return Rows(index=None, masked=mask, count=count, overflow=None)
    # A stable sort keeps the order of time and, unlike padding with one index, repeats no frame:
    # rows can be written back without two of them meeting.
    index = torch.argsort(mask.logical_not().to(torch.uint8), stable=True)[:max_masked]
    return Rows(
        index=index,
        masked=mask.index_select(0, index),
        count=count,
        overflow=count > max_masked,
    )
