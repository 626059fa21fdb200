"""The ops behind ``ctc_loss``: opaque to tracing, with fake results and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from kernels.ctc import dense, passes
from kernels.ctc.arguments import Labels
from kernels.ctc.batch import Batch, prepare
from kernels.ctc.calls import LABELS_SCHEMA, plain
from kernels.ctc.engine import Engine
from kernels.ctc.engines import engine_for
from kernels.ctc.options import SCHEMA, Options
from kernels.dtypes import accumulation_dtype
from kernels.gradients import second_derivative_refusal

NAME: Final = "ctc_loss"
INPUTS: Final = f"Tensor logits, {LABELS_SCHEMA}"


@torch.library.custom_op(
    "sori::ctc",
    mutates_args=(),
    schema=f"({INPUTS}, bool need_gradient, {SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def losses_of_logits(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    need_gradient: bool,
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (B,) losses, their factors in the reduction, and what the backward pass needs.

    That is (B,) bool, utterances without an alignment, and (B, T, 1 + U), the gradients with
    respect to the logits of an utterance's own columns, empty if nothing needs them.
    """
    labels = Labels(targets, input_lengths, target_lengths)
    chosen = Options.from_flat(numbers, words)
    with plain(logits.device):
        engine, batch = _prepare(logits, labels, chosen)
        found = dense.forward(engine, batch, logits, chosen, gradient=need_gradient)
        scale = passes.reduction_scale(batch, chosen.reduction, found.losses.dtype)
        columns = found.losses.new_empty(0) if found.columns is None else found.columns
        return found.losses, scale, found.impossible, columns


@losses_of_logits.register_fake
def _(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    need_gradient: bool,
    numbers: Sequence[float],
    words: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count, frames, _ = logits.shape
    losses = logits.new_empty(count, dtype=accumulation_dtype(logits.dtype))
    impossible = torch.empty_like(losses, dtype=torch.bool)
    shape = (count, frames, targets.shape[1] + 1) if need_gradient else (0,)
    return losses, torch.empty_like(losses), impossible, losses.new_empty(shape)


@torch.library.custom_op(
    "sori::ctc_backward",
    mutates_args=(),
    schema=f"(Tensor grad_losses, Tensor impossible, Tensor columns, {INPUTS}, {SCHEMA}) -> Tensor",
)
def gradient_of_logits(
    grad_losses: Tensor,
    impossible: Tensor,
    columns: Tensor,
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    numbers: Sequence[float],
    words: str,
) -> Tensor:
    """Return (B, T, V) the gradient of the logits for (B,) weights of the losses."""
    labels = Labels(targets, input_lengths, target_lengths)
    known = replace(Options.from_flat(numbers, words), validate=False)
    with plain(logits.device):
        engine, batch = _prepare(logits, labels, known)
        found = dense.Found(grad_losses, impossible, columns)
        return dense.backward(engine, batch, logits, found, grad_losses, known)


@gradient_of_logits.register_fake
def _(
    grad_losses: Tensor,
    impossible: Tensor,
    columns: Tensor,
    logits: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    numbers: Sequence[float],
    words: str,
) -> Tensor:
    return logits.new_empty(logits.shape)


def _save(
    ctx: Any,  # noqa: ANN401
    inputs: tuple[Any, ...],
    output: tuple[Tensor, ...],
) -> None:
    ctx.save_for_backward(*output[2:], *inputs[:4])
    ctx.options = inputs[5:]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any,  # noqa: ANN401
    grad_losses: Tensor | None,
    *_unused: Tensor | None,
) -> tuple[Tensor | None, ...]:
    others = (None,) * (4 + len(ctx.options))
    if grad_losses is None or not ctx.needs_input_grad[0]:
        return (None, *others)
    return (gradient_of_logits(grad_losses, *ctx.saved_tensors, *ctx.options), *others)


losses_of_logits.register_autograd(_backward, setup_context=_save)
gradient_of_logits.register_autograd(second_derivative_refusal(NAME))


def _prepare(logits: Tensor, labels: Labels, options: Options) -> tuple[Engine, Batch]:
    count, frames, classes = logits.shape
    engine = engine_for(NAME, options.backend, logits.device, labels.targets.shape[1])
    return engine, prepare((count, frames), classes, labels, options)
