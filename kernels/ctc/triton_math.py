"""What the kernels compute with. Scores of the lattice are to base 2, the impossible finite."""

# Constants of a kernel are in capitals.
# ruff: noqa: N803
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kernels.dispatch import interpreting

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)

# Score of a path that cannot be. It is finite, so that no sum or difference of such scores is NaN
# and the recursion needs no guard, and so low that the scores of real paths drown in it.
NEVER = tl.constexpr(-1e30)
# A score below has an impossible step.
POSSIBLE = tl.constexpr(-1e29)

# tl.log2 becomes a polynomial of 12 FMAs, tl.exp2 and tl.exp a scaled form that keeps denormals.
# Here the arguments of the logarithm lie in [1, 2], where its function unit errs by 2^-22 at most,
# and a power below 2^-126 counts for nothing.
LOG_ADD = tl.constexpr(
    """{
    .reg .f32 greater, other;
    max.f32 greater, $1, $2;
    sub.f32 other, $1, $2;
    abs.f32 other, other;
    neg.f32 other, other;
    ex2.approx.ftz.f32 other, other;
    add.f32 other, other, 0f3F800000;
    lg2.approx.ftz.f32 other, other;
    add.f32 $0, greater, other;
    }"""
)
EXP2 = tl.constexpr("ex2.approx.ftz.f32 $0, $1;")


def is_fast(dtype: torch.dtype) -> bool:
    """Say whether kernels can use NVIDIA's function units, which the interpreter has not."""
    return not interpreting() and torch.version.hip is None and dtype == torch.float32


@triton.jit
def log_add(a: tl.tensor, b: tl.tensor, FAST: tl.constexpr) -> tl.tensor:
    """Return log2(2^a + 2^b), with FAST by NVIDIA's function units (float32 only)."""
    if FAST:
        return tl.inline_asm_elementwise(
            LOG_ADD, "=f,f,f", [a, b], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.maximum(a, b) + tl.log2(1.0 + tl.exp2(-tl.abs(a - b)))


@triton.jit
def exp(x: tl.tensor, FAST: tl.constexpr) -> tl.tensor:
    """Return e^x, with FAST by NVIDIA's function units (float32 only)."""
    if FAST:
        return tl.inline_asm_elementwise(
            EXP2, "=f,f", [x * LOG2_E], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp(x)


@triton.jit
def possible_or_never(x: tl.tensor) -> tl.tensor:
    """Return x with NEVER in place of -inf; NaN stays NaN."""
    return tl.maximum(x, NEVER, propagate_nan=tl.PropagateNan.ALL)
