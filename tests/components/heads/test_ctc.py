from __future__ import annotations

import torch

from components.heads.ctc import CTCHead


def test_logits_are_an_affine_map() -> None:
    head = CTCHead()
    head.setup(input_dim=4, vocab_size=7)
    hidden = torch.randn(2, 3, 4)
    torch.testing.assert_close(head(hidden), hidden @ head.weight.T + head.bias)


def test_same_seed_gives_the_weights_of_a_linear_layer() -> None:
    torch.manual_seed(3)
    head = CTCHead()
    head.setup(input_dim=4, vocab_size=7)
    torch.manual_seed(3)
    linear = torch.nn.Linear(4, 7)
    torch.testing.assert_close(head.weight, linear.weight, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(head.bias, linear.bias)


def test_bias_is_an_option() -> None:
    head = CTCHead(use_bias=False)
    head.setup(input_dim=4, vocab_size=7)
    assert head.bias is None
    assert list(head.state_dict()) == ["weight"]
    assert head(torch.randn(1, 2, 4)).shape == (1, 2, 7)


def test_dropout_acts_in_training_only() -> None:
    head = CTCHead(dropout=1.0, use_bias=False)
    head.setup(input_dim=4, vocab_size=7)
    hidden = torch.randn(1, 2, 4)
    assert not head.train()(hidden).any()
    assert head.eval()(hidden).any()
