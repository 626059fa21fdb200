"""The Transformer between embeddings and heads, and the order in which it reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class NoPositions(nn.Module):
    """Position embeddings that add nothing: streams bring their own."""

    def forward(self, position_ids: Tensor) -> Tensor:
        """Return a zero that changes neither values nor dtype of what it is added to."""
        return torch.zeros((), device=position_ids.device)


def make_gpt(
    *, dim: int, layers: int, heads: int, dropout: float, gradient_checkpointing: bool
) -> nn.Module:
    """Return the Transformer of GPT-2 (Radford et al. 2019), which reads embeddings.

    It has no parameters but those of its blocks and its last norm: no token or position tables.

    Args:
        dim: model width.
        layers: blocks.
        heads: attention heads; they divide ``dim``.
        dropout: on the inputs, attention weights and residual branches.
        gradient_checkpointing: compute a block's activations again in the backward pass.
    """
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    config = GPT2Config(
        vocab_size=1,
        n_positions=1,
        n_embd=dim,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
        attn_implementation="sdpa",
    )
    gpt = GPT2Model(config)
    gpt.wte = nn.Identity()  # never called
    gpt.wpe = NoPositions()
    if gradient_checkpointing:
        # Renamed within transformers 5; the former name goes with 6.
        former = "gradient_checkpointing_enable"
        enable = getattr(gpt, "activation_checkpointing_enable", None) or getattr(gpt, former)
        enable({"use_reentrant": False})
    made: nn.Module = gpt
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """An order of positions in which those past the end of a first stream come last.

    Positions are those of prefix, first and second stream, one after the other, N in all. In a
    padded batch the padding of the first stream lies before the second, which would attend to it.
    Behind it, causal attention alone keeps it from being seen, and no mask is needed.

    Args:
        order: (B, N) int64, the position that is read at each place.
        first: (B, U) int64, where the first stream is read.
        second: (B, S) int64, where the second stream is read.
    """

    order: Tensor
    first: Tensor
    second: Tensor


def packed(*, prefix: int, first: int, second: int, lengths: Tensor) -> Packing:
    """Return the order for streams of sizes ``first`` and ``second`` behind a prefix.

    Args:
        prefix: positions before the streams.
        first: positions U of the first stream.
        second: positions S of the second stream.
        lengths: (B,) int64, of the first stream, from 0 to U.
    """
    place = torch.arange(prefix + first + second, device=lengths.device)
    ends = prefix + lengths.unsqueeze(1)
    gap = first - lengths.unsqueeze(1)
    order = torch.where(place < ends, place, place + gap)
    order = torch.where(place < ends + second, order, place - second)
    own = place[prefix : prefix + first]
    return Packing(
        order=order,
        first=torch.where(own < ends, own, own + second),
        second=ends + place[:second],
    )


def in_order(x: Tensor, order: Tensor) -> Tensor:
    """Return the rows (B, M, D) of (B, N, D) that (B, M) indices name."""
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
