"""The opaque ops of which the loss consists for autograd and torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.dispatch import implementation
from kernels.dtypes import accumulation_dtype
from kernels.gradients import scaled_where_needed, second_derivative_refusal
from kernels.half import HALF_RANGE, half_factor
from kernels.masked_ce.arguments import OP, check_content
from kernels.masked_ce.driver import Needs, Problem, run
from kernels.masked_ce.engine import Engine
from kernels.masked_ce.reduction import reduce
from kernels.masked_ce.rows import Rows, select_rows


@torch.library.custom_op("sori::masked_cross_entropy", mutates_args=())
def forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    reduction: str,
    max_masked: int | None,
    validate: bool,
    chunk_bytes: int | None,
    backend: str,
    product_dtype: torch.dtype,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of MaskedLoss, a scale, and gradients that have to be multiplied by it.

    The gradients (hidden, weight, bias; accumulated dtype; of size 0 if not ``needed`` or with
    reduction none) are those of the sum of losses times a constant. The scale () makes them those
    of the loss: so it costs no pass of its own, and no rounding where arguments are float16.
    """
    if validate:
        check_content(targets, mask, weight.shape[1], max_masked)
    with torch.autocast(hidden.device.type, enabled=False):
        rows = select_rows(mask, hidden.device, max_masked)
        problem = _gather(rows, hidden, weight, bias, targets, product_dtype)
        needs = Needs(*(need and reduction != "none" for need in needed))
        lift = HALF_RANGE if product_dtype == torch.float16 and any(needs) else 1.0
        factors = rows.factors(lift, accumulation_dtype(product_dtype))
        if factors is not None:
            factors = factors.unsqueeze(1).expand(problem.targets.shape)
        outcome = run(_engine(backend, hidden.device), problem, factors, needs, chunk_bytes)
        reduced = reduce(outcome.losses, outcome.hits, rows, mask, reduction)
        grad_hidden = _spread(outcome.hidden, rows, hidden) if needs.hidden else outcome.hidden
    scale = reduced.scale / lift
    return *reduced[:4], scale, grad_hidden, outcome.weight, outcome.bias


@forward.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    reduction: str,
    max_masked: int | None,
    validate: bool,
    chunk_bytes: int | None,
    backend: str,
    product_dtype: torch.dtype,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = accumulation_dtype(product_dtype)
    books = weight.shape[0]

    def tensor(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return hidden.new_empty(shape, dtype=dtype)

    needs = [need and reduction != "none" for need in needed]
    return (
        tensor(*(targets.shape if reduction == "none" else ())),
        tensor(books),
        tensor(books, dtype=torch.int64),
        tensor(dtype=torch.int64),
        tensor(),
        tensor(*(hidden.shape if needs[0] else (0,))),
        tensor(*(weight.shape if needs[1] else (0,))),
        tensor(*(weight.shape[:2] if needs[2] else (0,))),
    )


@torch.library.custom_op("sori::masked_cross_entropy_gradient", mutates_args=())
def gradient(
    grad_losses: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    max_masked: int | None,
    chunk_bytes: int | None,
    backend: str,
    product_dtype: torch.dtype,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of (B, T, C) losses, with logits computed anew; size 0 if not needed."""
    needs = Needs(*needed)
    with torch.autocast(hidden.device.type, enabled=False):
        rows = select_rows(mask, hidden.device, max_masked)
        problem = _gather(rows, hidden, weight, bias, targets, product_dtype)
        incoming = rows.select(grad_losses.reshape(-1, grad_losses.shape[-1]))
        factors = rows.blank(incoming.to(accumulation_dtype(product_dtype)))
        lift = half_factor(factors) if product_dtype == torch.float16 else None
        if lift is not None:
            factors = factors * lift
        outcome = run(_engine(backend, hidden.device), problem, factors, needs, chunk_bytes)
        grad_hidden = _spread(outcome.hidden, rows, hidden) if needs.hidden else outcome.hidden
        totals = (grad_hidden, outcome.weight, outcome.bias)
        if lift is not None:
            for total in totals:
                total.div_(lift)
        dtypes = (hidden.dtype, weight.dtype, weight.dtype if bias is None else bias.dtype)
        grads = [rows.refuse(x).to(dtype) for x, dtype in zip(totals, dtypes, strict=True)]
    return grads[0], grads[1], grads[2]


@gradient.register_fake
def _(
    grad_losses: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    max_masked: int | None,
    chunk_bytes: int | None,
    backend: str,
    product_dtype: torch.dtype,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        hidden.new_empty(hidden.shape if needed[0] else 0),
        weight.new_empty(weight.shape if needed[1] else 0),
        (weight if bias is None else bias).new_empty(weight.shape[:2] if needed[2] else 0),
    )


def _remember(
    ctx: Any,  # noqa: ANN401
    inputs: tuple[Any, ...],
    output: tuple[Tensor, ...],
) -> None:
    hidden, weight, bias, targets, mask, reduction, *_ = inputs
    # Else zeros as large as the weight would be made for the outputs that have no gradient.
    ctx.set_materialize_grads(False)
    ctx.dtypes = [weight.dtype if tensor is None else tensor.dtype for tensor in inputs[:3]]
    ctx.recomputes = reduction == "none"
    if ctx.recomputes:
        _, _, max_masked, _, chunk_bytes, backend, product_dtype, _ = inputs[4:]
        ctx.options = (max_masked, chunk_bytes, backend, product_dtype)
        ctx.save_for_backward(hidden, weight, bias, targets, mask)
    else:
        ctx.save_for_backward(*output[4:])


def _backward(
    ctx: Any,  # noqa: ANN401
    grad_loss: Tensor | None,
    *_unused: Tensor | None,
) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:3])
    others = (None,) * 9
    if grad_loss is None:
        return (None, None, None, *others)
    if ctx.recomputes:
        grads = gradient(grad_loss, *ctx.saved_tensors, *ctx.options, needed)
        return (*(x if need else None for x, need in zip(grads, needed, strict=True)), *others)
    scale, *totals = ctx.saved_tensors
    return (*scaled_where_needed(OP, grad_loss * scale, totals, ctx.dtypes, needed), *others)


forward.register_autograd(_backward, setup_context=_remember)
gradient.register_autograd(second_derivative_refusal(OP))


def _engine(backend: str, device: torch.device) -> Engine:
    engine: Engine = implementation("kernels.masked_ce", OP, backend, device).ENGINE
    return engine


def _gather(
    rows: Rows,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    dtype: torch.dtype,
) -> Problem:
    """Return the rows' hidden vectors and targets; both 0 in frames that are not masked."""
    return Problem(
        hidden=rows.blank(rows.select(hidden.reshape(-1, hidden.shape[-1])).to(dtype)),
        weight=weight,
        bias=bias,
        targets=rows.blank(rows.select(targets.reshape(-1, targets.shape[-1])).long()),
    )


def _spread(gradient: Tensor, rows: Rows, hidden: Tensor) -> Tensor:
    """Return (B, T, D) from (N, D)."""
    return rows.spread(gradient, hidden.shape[0] * hidden.shape[1]).view(hidden.shape)
