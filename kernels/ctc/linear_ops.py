"""The ops behind ``linear_ctc_loss``: opaque to tracing, with fake results and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from kernels.ctc import linear, passes
from kernels.ctc.arguments import Labels
from kernels.ctc.batch import Batch, prepare
from kernels.ctc.calls import LABELS_SCHEMA, plain
from kernels.ctc.engine import Engine
from kernels.ctc.engines import engine_for
from kernels.ctc.options import SCHEMA, Options
from kernels.dtypes import accumulation_dtype
from kernels.gradients import scaled_where_needed, second_derivative_refusal

NAME: Final = "linear_ctc_loss"
INPUTS: Final = f"Tensor hidden, Tensor weight, Tensor? bias, {LABELS_SCHEMA}, ScalarType compute"
NEEDED: Final = "bool[] needed"


@torch.library.custom_op(
    "sori::linear_ctc",
    mutates_args=(),
    schema=f"({INPUTS}, {NEEDED}, {SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def reduced_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    compute: torch.dtype,
    needed: Sequence[bool],
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the reduced loss, (B,) losses, and float32 gradients of hidden, weight and bias.

    The factor of an utterance in a reduction is known beforehand, so that the gradient can be
    computed with the loss; the backward pass multiplies it by the incoming scalar. A gradient
    that is not ``needed`` is empty.
    """
    labels = Labels(targets, input_lengths, target_lengths)
    with plain(hidden.device):
        call = _Call.of(hidden, weight, bias, labels, compute, Options.from_flat(numbers, words))
        scale = call.scale()
        losses, sums = call.losses_and_gradients(scale, needed)
        parts = [losses.new_empty(0) if part is None else part for part in sums]
        if needed[0]:
            parts[0] = parts[0].view(hidden.shape)
    return (losses * scale).sum(), losses, parts[0], parts[1], parts[2]


@reduced_loss.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    compute: torch.dtype,
    needed: Sequence[bool],
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, ...]:
    dtype = accumulation_dtype(compute)
    gradients = (
        hidden.new_empty(source.shape if need and source is not None else (0,), dtype=dtype)
        for source, need in zip((hidden, weight, bias), needed, strict=True)
    )
    losses = hidden.new_empty(hidden.shape[0], dtype=dtype)
    return (hidden.new_empty((), dtype=dtype), losses, *gradients)


def _save_gradients(
    ctx: Any,  # noqa: ANN401
    inputs: tuple[Any, ...],
    output: tuple[Tensor, ...],
) -> None:
    ctx.dtypes = [inputs[1].dtype if tensor is None else tensor.dtype for tensor in inputs[:3]]
    ctx.needed = inputs[7]
    ctx.others = len(inputs) - 3
    ctx.save_for_backward(*output[2:])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _scale_gradients(
    ctx: Any,  # noqa: ANN401
    grad_loss: Tensor | None,
    *_unused: Tensor | None,
) -> tuple[Tensor | None, ...]:
    others = (None,) * ctx.others
    if grad_loss is None:
        return (None, None, None, *others)
    grads = scaled_where_needed(NAME, grad_loss, ctx.saved_tensors, ctx.dtypes, ctx.needed)
    return (*grads, *others)


reduced_loss.register_autograd(_scale_gradients, setup_context=_save_gradients)


@torch.library.custom_op(
    "sori::linear_ctc_losses",
    mutates_args=(),
    schema=f"({INPUTS}, {SCHEMA}) -> (Tensor, Tensor)",
)
def losses_alone(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    compute: torch.dtype,
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, Tensor]:
    """Return (B,) losses, and (B,) their factors in the reduction."""
    labels = Labels(targets, input_lengths, target_lengths)
    with plain(hidden.device):
        call = _Call.of(hidden, weight, bias, labels, compute, Options.from_flat(numbers, words))
        return call.losses(), call.scale()


@losses_alone.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    compute: torch.dtype,
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, Tensor]:
    losses = hidden.new_empty(hidden.shape[0], dtype=accumulation_dtype(compute))
    return losses, torch.empty_like(losses)


@torch.library.custom_op(
    "sori::linear_ctc_backward",
    mutates_args=(),
    schema=f"(Tensor grad_losses, {INPUTS}, {NEEDED}, {SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def gradients_alone(
    grad_losses: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    compute: torch.dtype,
    needed: Sequence[bool],
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of hidden, weight and bias for (B,) weights of the losses.

    The logits are computed again: a sum over utterances, which the gradient of the weight is,
    cannot be weighted after the fact. A gradient that is not ``needed`` is empty.
    """
    labels = Labels(targets, input_lengths, target_lengths)
    known = replace(Options.from_flat(numbers, words), validate=False)
    with plain(hidden.device):
        call = _Call.of(hidden, weight, bias, labels, compute, known)
        _, sums = call.losses_and_gradients(grad_losses.to(call.dtype), needed)
    parts = [
        grad_losses.new_empty(0)
        if part is None or source is None
        else part.view(source.shape).to(source.dtype)
        for part, source in zip(sums, (hidden, weight, bias), strict=True)
    ]
    return parts[0], parts[1], parts[2]


@gradients_alone.register_fake
def _(
    grad_losses: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    compute: torch.dtype,
    needed: Sequence[bool],
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, ...]:
    return tuple(
        source.new_empty(source.shape) if need and source is not None else grad_losses.new_empty(0)
        for source, need in zip((hidden, weight, bias), needed, strict=True)
    )


def _save_inputs(
    ctx: Any,  # noqa: ANN401
    inputs: tuple[Any, ...],
    output: tuple[Tensor, ...],
) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.compute, *ctx.options = inputs[6:]
    ctx.set_materialize_grads(False)


def _recompute_gradients(
    ctx: Any,  # noqa: ANN401
    grad_losses: Tensor | None,
    _grad_scale: Tensor | None,
) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:3])
    others = (None,) * (4 + len(ctx.options))
    if grad_losses is None:
        return (None, None, None, *others)
    grads = gradients_alone(grad_losses, *ctx.saved_tensors, ctx.compute, needed, *ctx.options)
    return (*(grad if need else None for grad, need in zip(grads, needed, strict=True)), *others)


losses_alone.register_autograd(_recompute_gradients, setup_context=_save_inputs)
gradients_alone.register_autograd(second_derivative_refusal(NAME))


@dataclass(frozen=True, kw_only=True)
class _Call:
    """The arguments of an op in the form that the driver takes."""

    engine: Engine
    batch: Batch
    projection: linear.Projection
    options: Options

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Labels,
        compute: torch.dtype,
        options: Options,
    ) -> _Call:
        """Choose the engine, bring the labels to the device, cast the projection."""
        engine = engine_for(NAME, options.backend, hidden.device, labels.targets.shape[1])
        batch = prepare((hidden.shape[0], hidden.shape[1]), weight.shape[0], labels, options)
        projection = linear.Projection.of(hidden, weight, bias, compute, batch.padding)
        return cls(engine=engine, batch=batch, projection=projection, options=options)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of losses and of sums of gradients."""
        return accumulation_dtype(self.projection.weight.dtype)

    def scale(self) -> Tensor:
        """Return (B,) the factors of the reduction."""
        return passes.reduction_scale(self.batch, self.options.reduction, self.dtype)

    def losses(self) -> Tensor:
        """Return (B,) losses."""
        return linear.losses(self.engine, self.batch, self.projection, self.options)

    def losses_and_gradients(
        self, scale: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor, linear.Gradients]:
        """Return (B,) losses, and the gradients of their sum weighted by ``scale``."""
        hidden, weight, bias = needed
        sums = linear.Gradients.zeros(self.projection, hidden=hidden, weight=weight, bias=bias)
        losses = linear.losses_and_gradients(
            self.engine, self.batch, self.projection, self.options, scale, sums
        )
        return losses, sums
