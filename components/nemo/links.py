"""Which tensors of NeMo's are which of ours, and how their numbers are laid out.

Ours are the names of a task: ``encoder.*``, ``features.*``, ``masking.*``, ``quantizer.*`` and
``head.*``, as of :class:`components.tasks.masked_prediction.MaskedPredictionTask`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BATCHES = "num_batches_tracked"
"""Count of batches behind running statistics. NeMo keeps one for each norm and does not use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the layout of some tensors depends on.

    Args:
        channels: of the subsampling convolutions.
        books: codebooks.
    """

    channels: int = 1
    books: int = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """How one tensor of ours and the corresponding ones of NeMo's hold the same numbers."""

    take: Callable[[Sequence[Tensor], Sizes], Tensor]
    """From NeMo's tensors to ours."""
    give: Callable[[Tensor, Sizes], Sequence[Tensor]]
    """From our tensor to NeMo's."""


@dataclass(frozen=True, slots=True)
class Link:
    """A tensor of ours, the tensors of NeMo's that are the same, and how they differ in layout."""

    ours: str
    theirs: tuple[str, ...]
    layout: Layout


def _only(parts: Sequence[Tensor]) -> Tensor:
    (tensor,) = parts
    return tensor


SAME = Layout(lambda parts, _: _only(parts), lambda tensor, _: [tensor])
STACKED = Layout(lambda parts, _: torch.cat(tuple(parts)), lambda tensor, _: tensor.chunk(3))
"""Queries, keys and values in one product."""
POINTWISE = Layout(
    lambda parts, _: _only(parts).reshape(_only(parts).shape[:2]),
    lambda tensor, _: [tensor.unsqueeze(2)],
)
"""A linear layer, which NeMo has as a convolution of one frame."""
BINS_FIRST = Layout(
    lambda parts, s: _only(parts).unflatten(1, (s.channels, -1)).transpose(1, 2).flatten(1),
    lambda tensor, s: [tensor.unflatten(1, (-1, s.channels)).transpose(1, 2).flatten(1)],
)
"""Columns bin by bin, where NeMo's are channel by channel."""
BOOKS_FIRST = Layout(
    lambda parts, s: _only(parts).unflatten(0, (-1, s.books)).transpose(0, 1).squeeze(3),
    lambda tensor, _: [tensor.transpose(0, 1).flatten(0, 1).unsqueeze(2)],
)
"""(C, V, D), where NeMo has (V C, D, 1): for each class all books."""
BOOKS_FIRST_BIAS = Layout(
    lambda parts, s: _only(parts).unflatten(0, (-1, s.books)).transpose(0, 1),
    lambda tensor, _: [tensor.transpose(0, 1).flatten()],
)
PROJECTION = Layout(
    lambda parts, s: _only(parts).unflatten(0, (s.books, -1)).transpose(1, 2),
    lambda tensor, _: [tensor.transpose(1, 2).flatten(0, 1)],
)
"""(C, F, K), where NeMo has (C K, F)."""
FILTERS = Layout(
    lambda parts, _: _only(parts).squeeze(0).transpose(0, 1),
    lambda tensor, _: [tensor.transpose(0, 1).unsqueeze(0)],
)

TOP = {
    link.ours: link
    for link in (
        Link("features.window", ("preprocessor.featurizer.window",), SAME),
        Link("features.filters", ("preprocessor.featurizer.fb",), FILTERS),
        Link("masking.embedding", ("mask_processor.mask_embedding",), SAME),
        Link("quantizer.projection", ("quantizer.proj.weight",), PROJECTION),
        Link("quantizer.codebooks", ("quantizer.codebooks",), SAME),
        Link("head.weight", ("decoder.decoder_layers.0.weight",), BOOKS_FIRST),
        Link("head.bias", ("decoder.decoder_layers.0.bias",), BOOKS_FIRST_BIAS),
        Link("encoder.subsample.out.weight", ("encoder.pre_encode.out.weight",), BINS_FIRST),
        Link("encoder.subsample.out.bias", ("encoder.pre_encode.out.bias",), SAME),
    )
}

MODULES = {
    "norm_feed_forward1": "norm_feed_forward1",
    "feed_forward1.linear1": "feed_forward1.linear1",
    "feed_forward1.linear2": "feed_forward1.linear2",
    "norm_attention": "norm_self_att",
    "attention.position": "self_attn.linear_pos",
    "attention.out": "self_attn.linear_out",
    "norm_convolution": "norm_conv",
    "convolution.pointwise1": "conv.pointwise_conv1",
    "convolution.depthwise": "conv.depthwise_conv",
    "convolution.norm": "conv.batch_norm",
    "convolution.pointwise2": "conv.pointwise_conv2",
    "norm_feed_forward2": "norm_feed_forward2",
    "feed_forward2.linear1": "feed_forward2.linear1",
    "feed_forward2.linear2": "feed_forward2.linear2",
    "norm_out": "norm_out",
}
"""Modules of a layer, ours and NeMo's; NeMo calls the norm of the convolution so in any case."""
BIASES = {
    "attention.content_bias": "self_attn.pos_bias_u",
    "attention.position_bias": "self_attn.pos_bias_v",
}
FUSED = "attention.qkv"
PARTS = ("self_attn.linear_q", "self_attn.linear_k", "self_attn.linear_v")
KINDS = ("weight", "bias", "running_mean", "running_var")

_OUR_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_OUR_STAGE = re.compile(r"encoder\.subsample\.stages\.(\d+)\.(?:([01])\.)?(weight|bias)")
_THEIR_STAGE = re.compile(r"encoder\.pre_encode\.conv\.(\d+)\.(weight|bias)")
_OURS_OF_MODULE = {theirs: ours for ours, theirs in MODULES.items()} | dict.fromkeys(PARTS, FUSED)
_OURS_OF_TOP = {link.theirs[0]: ours for ours, link in TOP.items()}


def link_of(ours: str) -> Link | None:
    """Return the link of a name of ours; None if NeMo has no such tensor."""
    if ours in TOP:
        return TOP[ours]
    if stage := _OUR_STAGE.fullmatch(ours):
        theirs = f"encoder.pre_encode.conv.{_place(stage)}.{stage[3]}"
        return Link(ours, (theirs,), SAME)
    layer = _OUR_LAYER.fullmatch(ours)
    if layer is None:
        return None
    prefix, name = f"encoder.layers.{layer[1]}.", layer[2]
    if name in BIASES:
        return Link(ours, (prefix + BIASES[name],), SAME)
    module, _, kind = name.rpartition(".")
    if kind not in KINDS:
        return None
    if module == FUSED:
        return Link(ours, tuple(f"{prefix}{part}.{kind}" for part in PARTS), STACKED)
    if module not in MODULES:
        return None
    pointwise = "pointwise" in module and kind == "weight"
    return Link(ours, (f"{prefix}{MODULES[module]}.{kind}",), POINTWISE if pointwise else SAME)


def ours_of(theirs: str, *, separable: bool) -> str | None:
    """Return the name of ours that a tensor of NeMo's belongs to; None if there is none.

    Args:
        theirs: NeMo's name.
        separable: whether the subsampling is depthwise-separable, which its numbering depends on.
    """
    if theirs in _OURS_OF_TOP:
        return _OURS_OF_TOP[theirs]
    if stage := _THEIR_STAGE.fullmatch(theirs):
        place = _our_place(int(stage[1]), separable)
        return None if place is None else f"encoder.subsample.stages.{place}.{stage[2]}"
    layer = _OUR_LAYER.fullmatch(theirs)
    if layer is None:
        return None
    prefix, name = f"encoder.layers.{layer[1]}.", layer[2]
    for ours, nemos in BIASES.items():
        if name == nemos:
            return prefix + ours
    module, _, kind = name.rpartition(".")
    if module not in _OURS_OF_MODULE or kind not in KINDS:
        return None
    return f"{prefix}{_OURS_OF_MODULE[module]}.{kind}"


def _place(stage: re.Match[str]) -> int:
    """Return NeMo's index: a stage is two or, from the second on if separable, three entries."""
    number = int(stage[1])
    if stage[2] is None:
        return 2 * number
    return 3 * number - 1 + int(stage[2])


def _our_place(index: int, separable: bool) -> str | None:
    if index == 0:
        return "0"
    if not separable:
        return str(index // 2) if index % 2 == 0 else None
    stage, part = divmod(index + 1, 3)
    return f"{stage}.{part}" if part < 2 else None
