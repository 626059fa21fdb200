from __future__ import annotations

import torch

from components.encoders.feed_forward import FeedForward


def test_two_projections_around_a_gated_sigmoid() -> None:
    module = FeedForward(dim=4, hidden_dim=6, dropout=0.0)
    x = torch.randn(2, 3, 4)
    hidden = x @ module.linear1.weight.T + module.linear1.bias
    expected = (hidden * torch.sigmoid(hidden)) @ module.linear2.weight.T + module.linear2.bias
    torch.testing.assert_close(module(x), expected)


def test_bias_is_an_option() -> None:
    module = FeedForward(dim=4, hidden_dim=6, dropout=0.0, bias=False)
    assert [name for name, _ in module.named_parameters()] == ["linear1.weight", "linear2.weight"]
