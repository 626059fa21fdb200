"""One classifier for each codebook."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from core.registry import register


@register("head", "multi_softmax")
class MultiSoftmaxHead(nn.Module):
    """Linear layers from hidden states to the logits of C codebooks.

    Args:
        use_bias: whether logits have a bias.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, *, use_bias: bool = True) -> None:
        super().__init__()
        self.use_bias = use_bias
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def setup(self, *, input_dim: int, codebook_size: int, num_books: int) -> None:
        """Create the layers: Xavier-uniform over all books together, biases as ``nn.Linear``'s.

        Args:
            input_dim: width D of hidden states.
            codebook_size: classes V of each book.
            num_books: codebooks C.
        """
        bound = math.sqrt(6.0 / (input_dim + codebook_size * num_books))
        weight = torch.empty(num_books, codebook_size, input_dim).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        if self.use_bias:
            bound = 1.0 / math.sqrt(input_dim)
            bias = torch.empty(num_books, codebook_size).uniform_(-bound, bound)
            self.bias = nn.Parameter(bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) hidden states to (B, T, C, V) logits."""
        logits = torch.einsum("btd,cvd->btcv", hidden, self.weight.to(hidden.dtype))
        return logits if self.bias is None else logits + self.bias.to(hidden.dtype)
