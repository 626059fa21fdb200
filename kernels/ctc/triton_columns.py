"""Triton: what is done to the columns of a row's utterance alone."""

# Constants of a kernel are in capitals.
# ruff: noqa: N803
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Final

import triton
import triton.language as tl
from torch import Tensor

COLUMNS: Final = 128
"""Columns that a program takes at once."""


@triton.jit
def logits_of(
    row: tl.tensor,
    column: tl.tensor,
    inside: tl.tensor,
    blank: tl.tuple,
    PENALTY: tl.constexpr,
) -> tl.tensor:
    """Load logits of a row in the dtype of the penalty; what is not inside is -inf."""
    place, penalty = blank
    z = tl.load(row + column, mask=inside, other=float("-inf")).to(penalty.dtype)
    if PENALTY:
        z = tl.where(column == place, z - penalty, z)
    return z


@triton.jit
def gather(
    row: tl.tensor,
    columns: tl.tensor,
    emissions: tl.tensor,
    width: tl.tensor,
    blank: tl.tuple,
    norm: tl.tuple,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PENALTY: tl.constexpr,
) -> None:
    """Write the log-probabilities of a row's columns."""
    begin = 0
    while begin < width:
        place = begin + tl.arange(0, COLUMNS)
        column = tl.load(columns + place, mask=place < width, other=-1)
        z = logits_of(row, column, (column >= 0) & (column < CLASSES), blank, PENALTY)
        tl.store(emissions + place, z - norm[0] - norm[1], mask=place < width)
        begin += COLUMNS


@triton.jit
def clear(
    row: tl.tensor,
    columns: tl.tensor,
    width: tl.tensor,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Write 0 to a row's columns."""
    begin = 0
    while begin < width:
        place = begin + tl.arange(0, COLUMNS)
        column = tl.load(columns + place, mask=place < width, other=-1)
        zero = tl.zeros((COLUMNS,), row.dtype.element_ty)
        tl.store(row + column, zero, mask=(column >= 0) & (column < CLASSES))
        begin += COLUMNS


@triton.jit(
    do_not_specialize=["width"],
    do_not_specialize_on_alignment=["grad", "columns", "utterances", "values"],
)
def put(
    grad: tl.tensor,
    columns: tl.tensor,
    utterances: tl.tensor,
    values: tl.tensor,
    width: tl.tensor,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Write those of a row's values that are not 0 to its columns, which are 0."""
    row = tl.program_id(0).to(tl.int64)
    columns += tl.load(utterances + row) * width
    begin = 0
    while begin < width:
        place = begin + tl.arange(0, COLUMNS)
        column = tl.load(columns + place, mask=place < width, other=-1)
        value = tl.load(values + row * width + place, mask=place < width, other=0.0)
        known = (column >= 0) & (column < CLASSES) & (value != 0.0)
        tl.store(grad + row * CLASSES + column, value.to(grad.dtype.element_ty), mask=known)
        begin += COLUMNS


def put_columns(grad: Tensor, columns: Tensor, utterances: Tensor, values: Tensor) -> None:
    """Launch :func:`put`; see :meth:`kernels.ctc.engine.Engine.add_columns`."""
    if grad.shape[0]:
        put[(grad.shape[0],)](
            grad,
            columns.contiguous(),
            utterances.contiguous(),
            values.contiguous(),
            columns.shape[1],
            CLASSES=grad.shape[1],
            COLUMNS=COLUMNS,
            num_warps=1,
            enable_fp_fusion=True,
        )
