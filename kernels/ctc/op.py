"""CTC (Graves et al. 2006) of logits, and of hidden states together with the output projection."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from kernels.ctc import arguments, dense_ops, linear_ops, reference
from kernels.ctc.arguments import Labels, Lengths
from kernels.ctc.batch import prepare
from kernels.ctc.concatenated import pad_targets
from kernels.ctc.engine import Terms
from kernels.ctc.options import Options, Reduction
from kernels.ctc.passes import reduction_scale
from kernels.dispatch import Backend
from kernels.dtypes import product_dtype
from kernels.gradients import needed_gradients


class CTCLosses(NamedTuple):
    """The result of a loss with ``with_utterance_losses=True``.

    Args:
        loss: what the function returns without it; only this has a gradient.
        losses: (B,) losses in nats of the utterances before reduction, detached.
    """

    loss: Tensor
    losses: Tensor


@overload
def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = ...,
    reduction: Reduction = ...,
    zero_infinity: bool = ...,
    label_smoothing: float = ...,
    entropy_bonus: float = ...,
    blank_penalty: float = ...,
    consistency: float = ...,
    validate: bool | None = ...,
    chunk_bytes: int | None = ...,
    backend: Backend = ...,
    with_utterance_losses: Literal[False] = ...,
) -> Tensor: ...
@overload
def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = ...,
    reduction: Reduction = ...,
    zero_infinity: bool = ...,
    label_smoothing: float = ...,
    entropy_bonus: float = ...,
    blank_penalty: float = ...,
    consistency: float = ...,
    validate: bool | None = ...,
    chunk_bytes: int | None = ...,
    backend: Backend = ...,
    with_utterance_losses: Literal[True],
) -> CTCLosses: ...
def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
    label_smoothing: float = 0.0,
    entropy_bonus: float = 0.0,
    blank_penalty: float = 0.0,
    consistency: float = 0.0,
    validate: bool | None = None,
    chunk_bytes: int | None = None,
    backend: Backend = "auto",
    with_utterance_losses: bool = False,
) -> Tensor | CTCLosses:
    """Return the CTC loss of logits: -log p(targets | logits), summed over alignments, in nats.

    Unlike :func:`torch.nn.functional.ctc_loss` it takes logits, batch first, and its gradient is
    that of the logits, through the softmax: log-probabilities are logits like others, and give the
    same loss. The lattice is as accurate for long utterances as for short ones, labels that do not
    exist are refused, and two runs agree in every bit.

    The loss of an utterance, with p the softmax of a frame over V classes, is::

        (1 - label_smoothing) * CTC
          + label_smoothing * sum_t -mean_v log p_tv      (Szegedy et al. 2016, section 7)
          - entropy_bonus * sum_t H(p_t)                  (Pereyra et al. 2017, equation 1)
          + consistency * sum_t KL(q_t || p_t)            (Yao et al. 2024, CR-CTC, equation 3)

    Args:
        logits: (B, T, V) float16, bfloat16, float32 or float64. Softmax and sums are float32, for
            float64 logits float64, whatever the autocast state.
        targets: (B, U) int32 or int64, of which what lies beyond a length is not read; or all
            labels concatenated, (sum of target lengths,): then the host needs to know the lengths
            and waits for the device if ``target_lengths`` is there.
        input_lengths: (B,) valid frames of each utterance, 0 allowed: a list or a tensor, on CPU
            or with the logits. On CPU frames of padding are not computed, and lengths are checked.
        target_lengths: (B,) labels of each utterance, 0 allowed; likewise.
        blank: id of the blank.
        reduction: ``none`` returns (B,) losses; ``sum`` adds them up; ``mean`` divides each by its
            target length (at least 1), then averages over the batch, as torch does; ``mean_batch``
            averages over the batch; ``mean_volume`` divides the sum by the number of labels in the
            batch (at least 1), as NeMo does.
        zero_infinity: whether an utterance too short for its targets has a loss and a gradient of
            exactly 0, regularisers included. Else its loss is inf and its gradient NaN (0 where
            the incoming gradient is 0, so that ``none`` allows to leave it out).
        label_smoothing: share of the uniform distribution, in [0, 1).
        entropy_bonus: weight of the entropy, at least 0.
        blank_penalty: taken from the logit of the blank before the softmax.
        consistency: weight of the divergence between two views of an utterance, at least 0.
            Utterances b and b + B of 2B must then be such views, with equal lengths and targets;
            q, the softmax of the other view, counts as constant.
        validate: whether to look at the content of ``targets``. None looks on CPU, where it is
            free. True makes the host wait for a CUDA device. Without it an utterance whose labels
            or lengths cannot be has a loss of NaN.
        chunk_bytes: of float32 logits that are worked on at a time; None takes 16 MiB on CPU, 128
            MiB elsewhere.
        backend: ``torch``, ``triton``, ``reference`` (float64, slow, for tests), or ``auto``:
            triton on CUDA where it can run, else torch.
        with_utterance_losses: whether to return :class:`CTCLosses`.

    Returns:
        () loss, or (B,) for ``none``: float32, for float64 logits float64.

    Raises:
        KernelInputError: an argument cannot be; names the utterance and position at fault.
            LabelError, which is one, for a label.
        BackendError: the backend cannot run here, or a second derivative is asked for.
    """
    options = Options(
        terms=Terms(
            blank=blank,
            label_smoothing=label_smoothing,
            entropy_bonus=entropy_bonus,
            blank_penalty=blank_penalty,
            consistency=consistency,
        ),
        reduction=reduction,
        zero_infinity=zero_infinity,
        validate=validate,
        chunk_bytes=chunk_bytes,
        backend=backend,
    )
    arguments.check_logits(logits)
    options.check(classes=logits.shape[2], utterances=logits.shape[0])
    labels = _padded(
        arguments.check_labels("logits", logits, targets, input_lengths, target_lengths)
    )
    if backend == "reference":
        return _result(*_reference(logits, labels, options), options, with_utterance_losses)
    need = torch.is_grad_enabled() and logits.requires_grad
    losses, scale, _, _ = dense_ops.losses_of_logits(logits, *labels, need, *options.flat())
    return _result(losses, scale, options, with_utterance_losses)


@overload
def linear_ctc_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = ...,
    reduction: Reduction = ...,
    zero_infinity: bool = ...,
    label_smoothing: float = ...,
    entropy_bonus: float = ...,
    blank_penalty: float = ...,
    consistency: float = ...,
    validate: bool | None = ...,
    chunk_bytes: int | None = ...,
    backend: Backend = ...,
    with_utterance_losses: Literal[False] = ...,
) -> Tensor: ...
@overload
def linear_ctc_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = ...,
    reduction: Reduction = ...,
    zero_infinity: bool = ...,
    label_smoothing: float = ...,
    entropy_bonus: float = ...,
    blank_penalty: float = ...,
    consistency: float = ...,
    validate: bool | None = ...,
    chunk_bytes: int | None = ...,
    backend: Backend = ...,
    with_utterance_losses: Literal[True],
) -> CTCLosses: ...
def linear_ctc_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    *,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
    label_smoothing: float = 0.0,
    entropy_bonus: float = 0.0,
    blank_penalty: float = 0.0,
    consistency: float = 0.0,
    validate: bool | None = None,
    chunk_bytes: int | None = None,
    backend: Backend = "auto",
    with_utterance_losses: bool = False,
) -> Tensor | CTCLosses:
    """Return the CTC loss of ``hidden @ weight.T + bias``, never holding (B, T, V) in memory.

    The projection, the softmax and their gradients run chunk by chunk, in the order of the
    frames. With a reduction the gradient is computed along with the loss, in 6NVD FLOP for N
    frames, as much as without fusion; with ``none`` the logits are computed again in the backward
    pass, which makes 8NVD. If nothing needs a gradient only the losses are computed, in 2NVD.
    Sums of gradients are float32 and are cast to the dtype of their parameter once. A gradient
    that no argument requires costs nothing.

    Loss, options and remaining arguments are those of :func:`ctc_loss`.

    Args:
        hidden: (B, T, D) float16, bfloat16, float32 or float64, of any strides. What lies beyond
            an input length is not read.
        weight: (V, D) of the dtype of ``hidden``; under autocast of any but float64, and the
            products, with the logits that they yield, take autocast's.
        bias: (V,) likewise, or None. A class with a bias of -inf is forbidden.
        targets: see :func:`ctc_loss`.
        input_lengths: see :func:`ctc_loss`; for CUDA graphs it must be on the device.
        target_lengths: see :func:`ctc_loss`; likewise.
        blank: see :func:`ctc_loss`.
        reduction: see :func:`ctc_loss`.
        zero_infinity: see :func:`ctc_loss`.
        label_smoothing: see :func:`ctc_loss`.
        entropy_bonus: see :func:`ctc_loss`.
        blank_penalty: see :func:`ctc_loss`.
        consistency: see :func:`ctc_loss`.
        validate: see :func:`ctc_loss`.
        chunk_bytes: see :func:`ctc_loss`; this bounds the memory that the vocabulary takes.
        backend: see :func:`ctc_loss`.
        with_utterance_losses: see :func:`ctc_loss`.

    Returns:
        () loss, or (B,) for ``none``: float32, for float64 hidden states float64.

    Raises:
        KernelInputError: an argument cannot be; names the utterance and position at fault.
            LabelError, which is one, for a label.
        BackendError: the backend cannot run here, or a second derivative is asked for.
    """
    options = Options(
        terms=Terms(
            blank=blank,
            label_smoothing=label_smoothing,
            entropy_bonus=entropy_bonus,
            blank_penalty=blank_penalty,
            consistency=consistency,
        ),
        reduction=reduction,
        zero_infinity=zero_infinity,
        validate=validate,
        chunk_bytes=chunk_bytes,
        backend=backend,
    )
    arguments.check_projection(hidden, weight, bias)
    options.check(classes=weight.shape[0], utterances=hidden.shape[0])
    labels = _padded(
        arguments.check_labels("hidden", hidden, targets, input_lengths, target_lengths)
    )
    compute = product_dtype(linear_ops.NAME, hidden, weight, bias)
    if backend == "reference":
        frames = reference.without_padding(hidden.double(), labels.input_lengths)
        logits = frames @ weight.double().T
        logits = logits if bias is None else logits + bias.double()
        return _result(*_reference(logits, labels, options), options, with_utterance_losses)
    inputs = (hidden, weight, bias, *labels, compute)
    needed = needed_gradients(hidden, weight, bias)
    if reduction == "none" or not any(needed):
        losses, scale = linear_ops.losses_alone(*inputs, *options.flat())
        return _result(losses, scale, options, with_utterance_losses)
    loss, losses, *_ = linear_ops.reduced_loss(*inputs, needed, *options.flat())
    return CTCLosses(loss, losses.detach()) if with_utterance_losses else loss


def _padded(labels: Labels) -> Labels:
    if labels.targets.ndim == 2:
        return labels
    return labels._replace(targets=pad_targets(labels.targets, labels.target_lengths))


def _result(
    losses: Tensor, scale: Tensor, options: Options, with_utterance_losses: bool
) -> Tensor | CTCLosses:
    loss = losses if options.reduction == "none" else (losses * scale).sum()
    return CTCLosses(loss, losses.detach()) if with_utterance_losses else loss


def _reference(logits: Tensor, labels: Labels, options: Options) -> tuple[Tensor, Tensor]:
    """Return (B,) losses and their factors; the content is always checked."""
    checked = replace(options, validate=True)
    batch = prepare((logits.shape[0], logits.shape[1]), logits.shape[2], labels, checked)
    losses = reference.losses(logits, *labels, options.terms, zero_infinity=options.zero_infinity)
    return losses, reduction_scale(batch, options.reduction, losses.dtype)
