from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.encoders.convolution import (
    ConvContext,
    ConvNorm,
    ConvolutionModule,
    depthwise_over_time,
)
from components.encoders.masked_batch_norm import CountedFrames


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm"])
def test_equals_the_module_written_channels_first(norm: ConvNorm) -> None:
    torch.manual_seed(0)
    module = ConvolutionModule(dim=6, kernel_size=3, norm=norm).eval()
    x = torch.randn(2, 7, 6)
    got = module(x, torch.ones(2, 7, dtype=torch.bool))
    y = F.conv1d(x.transpose(1, 2), module.pointwise1.weight.unsqueeze(2), module.pointwise1.bias)
    y = module.depthwise(y[:, :6] * torch.sigmoid(y[:, 6:]))
    if norm == "layer_norm":
        y = F.layer_norm(y.transpose(1, 2), (6,)).transpose(1, 2)
    else:
        y = y / (1 + 1e-5) ** 0.5  # running mean 0, variance 1
    y = y * torch.sigmoid(y)
    y = F.conv1d(y, module.pointwise2.weight.unsqueeze(2), module.pointwise2.bias)
    torch.testing.assert_close(got, y.transpose(1, 2))


@pytest.mark.parametrize(
    ("context", "before", "after"),
    [("centred", 2, 2), ("causal", 4, 0), ((1, 3), 1, 3), ((4, 0), 4, 0), ((0, 4), 0, 4)],
)
def test_sees_the_frames_of_its_context(context: ConvContext, before: int, after: int) -> None:
    torch.manual_seed(0)
    module = ConvolutionModule(dim=4, kernel_size=5, norm="layer_norm", context=context)
    x = torch.randn(1, 12, 4, requires_grad=True)
    y = module(x, torch.ones(1, 12, dtype=torch.bool))
    assert y.shape == x.shape
    y[0, 6, 0].backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert seen == list(range(6 - before, 6 + after + 1))


@pytest.mark.parametrize("bias", [True, False])
def test_channels_last_form_equals_the_layer(bias: bool) -> None:
    layer = torch.nn.Conv1d(4, 4, 5, padding=2, groups=4, bias=bias)
    x = torch.randn(2, 9, 4)
    expected = layer(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(depthwise_over_time(x, layer, layer.bias), expected)


@pytest.mark.parametrize("over", ["real_frames", "all_frames"])
def test_a_bias_before_batch_statistics_has_no_gradient_and_before_running_ones_has_its_own(
    over: CountedFrames,
) -> None:
    torch.manual_seed(0)
    module = ConvolutionModule(dim=4, kernel_size=5, norm="batch_norm", batch_norm_over=over)
    x, valid = torch.randn(2, 9, 4), torch.ones(2, 9, dtype=torch.bool)
    bias = module.depthwise.bias
    assert bias is not None
    before = module(x, valid)
    before.square().sum().backward()
    assert bias.grad is not None
    assert not bias.grad.any()
    with torch.no_grad():
        bias.add_(3.0)
    torch.testing.assert_close(module(x, valid), before, atol=1e-5, rtol=1e-5)
    module.eval()(x, valid).square().sum().backward()
    assert bias.grad.abs().min() > 0
