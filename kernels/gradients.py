"""Gradients that are computed with the loss: scaled in the backward pass, not differentiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from kernels.errors import BackendError


def needed_gradients(*arguments: Tensor | None) -> list[bool]:
    """Say for each argument whether its gradient can be asked for."""
    return [
        torch.is_grad_enabled() and argument is not None and argument.requires_grad
        for argument in arguments
    ]


def scaled_where_needed(
    op: str,
    factor: Tensor,
    gradients: Sequence[Tensor],
    dtypes: Sequence[torch.dtype],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return gradients times a scalar, each rounded once to its dtype; None if not needed.

    The gradients must be outputs that autograd takes for differentiable: then a second derivative
    is refused in the name of ``op``, and not taken for 0.
    """
    chosen = [gradient for gradient, need in zip(gradients, needed, strict=True) if need]
    # A schema has no list of dtypes that arrives as one.
    like = [
        factor.new_empty(0, dtype=dtype) for dtype, need in zip(dtypes, needed, strict=True) if need
    ]
    found = iter(scaled_gradients(op, factor, chosen, like))
    return tuple(next(found) if need else None for need in needed)


@torch.library.custom_op(
    "sori::scaled_gradients",
    mutates_args=(),
    schema="(str op, Tensor factor, Tensor[] gradients, Tensor[] like) -> Tensor[]",
)
def scaled_gradients(
    op: str, factor: Tensor, gradients: Sequence[Tensor], like: Sequence[Tensor]
) -> list[Tensor]:
    """Return gradients times a scalar, with the dtypes of ``like``; one op, for each costs time."""
    return [
        torch.mul(gradient, factor, out=torch.empty_like(gradient, dtype=other.dtype))
        for gradient, other in zip(gradients, like, strict=True)
    ]


@scaled_gradients.register_fake
def _(op: str, factor: Tensor, gradients: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    return [
        torch.empty_like(gradient, dtype=other.dtype)
        for gradient, other in zip(gradients, like, strict=True)
    ]


def second_derivative_refusal(op: str) -> Callable[..., NoReturn]:
    """Return the backward function of an op that computes the gradients of ``op``."""

    def refuse(_ctx: Any, *_grads: Tensor | None) -> NoReturn:  # noqa: ANN401
        raise _no_second_derivative(op)

    return refuse


def _remember_op(
    ctx: Any,  # noqa: ANN401
    inputs: tuple[Any, ...],
    output: list[Tensor],
) -> None:
    ctx.op = inputs[0]


def _refuse(ctx: Any, *_grads: Tensor | None) -> NoReturn:  # noqa: ANN401
    raise _no_second_derivative(ctx.op)


def _no_second_derivative(op: str) -> BackendError:
    return BackendError(f"{op} has no second derivative; with backend='reference' it has")


scaled_gradients.register_autograd(_refuse, setup_context=_remember_op)
