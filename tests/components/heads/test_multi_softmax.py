from __future__ import annotations

import torch

from components.heads.multi_softmax import MultiSoftmaxHead


def build(*, use_bias: bool = True) -> MultiSoftmaxHead:
    torch.manual_seed(0)
    head = MultiSoftmaxHead(use_bias=use_bias)
    head.setup(input_dim=6, codebook_size=11, num_books=3)
    return head


def test_logits_are_those_of_a_linear_layer_for_each_book() -> None:
    for use_bias in (True, False):
        head = build(use_bias=use_bias)
        hidden = torch.randn(2, 5, 6)
        logits = head(hidden)
        assert logits.shape == (2, 5, 3, 11)
        for book in range(3):
            bias = head.bias[book] if head.bias is not None else None
            expected = torch.nn.functional.linear(hidden, head.weight[book], bias)
            torch.testing.assert_close(logits[:, :, book], expected)


def test_weights_fill_the_xavier_range_of_all_books_together() -> None:
    head = MultiSoftmaxHead()
    head.setup(input_dim=50, codebook_size=400, num_books=2)
    bound = (6 / (50 + 800)) ** 0.5
    assert 0.99 * bound < head.weight.abs().max().item() <= bound
    assert head.bias is not None
    assert head.bias.abs().max().item() <= 50**-0.5
