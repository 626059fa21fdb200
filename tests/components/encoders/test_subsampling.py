from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from components.encoders.subsampling import ConvSubsampling, SubsamplingMethod


@pytest.mark.parametrize("method", ["conv2d", "dw_striding"])
def test_equals_plain_convolutions_on_a_full_batch(method: SubsamplingMethod) -> None:
    torch.manual_seed(0)
    module = ConvSubsampling(input_dim=11, output_dim=6, channels=3, factor=8, method=method)
    features = torch.randn(2, 21, 11)
    got, lengths = module(features, torch.tensor([21, 21]))
    x = features.unsqueeze(1)
    for stage in module.stages:
        x = F.relu(stage(x))
    batch, channels, frames, bins = x.shape
    assert (channels, bins) == (3, 2)
    by_bin = torch.stack([x[..., b].transpose(1, 2) for b in range(bins)], dim=2)
    torch.testing.assert_close(got, module.out(by_bin.reshape(batch, frames, -1)))
    assert lengths.tolist() == [frames, frames]


@pytest.mark.parametrize("method", ["conv2d", "dw_striding"])
def test_without_masks_lengths_change_nothing(method: SubsamplingMethod) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"input_dim": 11, "output_dim": 6, "channels": 3, "factor": 8}
    module = ConvSubsampling(**options, method=method, masked=False)
    features = torch.randn(2, 21, 11)
    full, _ = module(features, torch.tensor([21, 21]))
    got, lengths = module(features, torch.tensor([21, 9]))
    assert torch.equal(got, full)
    assert lengths.tolist() == [3, 2]


def test_padding_leaks_without_masks_only() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"input_dim": 11, "output_dim": 6, "channels": 3, "factor": 8}
    features, lengths = torch.zeros(1, 48, 11), torch.tensor([17])
    features[:, :17] = torch.randn(17, 11)  # 9 frames, 5, 3: the last one sees one beyond
    for masked in (True, False):
        module = ConvSubsampling(**options, method="dw_striding", masked=masked)
        alone, _ = module(features[:, :17], lengths)
        padded, _ = module(features, lengths)
        same = torch.isclose(alone, padded[:, :3], atol=1e-6).all(-1)[0]
        assert same.tolist() == [True, True, masked]


def test_depthwise_striding_needs_a_small_part_of_the_weights() -> None:
    def weights(method: SubsamplingMethod) -> int:
        module = ConvSubsampling(input_dim=80, output_dim=8, channels=64, factor=8, method=method)
        return sum(parameter.numel() for parameter in module.stages.parameters())

    # Two stages of C*C*9 + C against two of C*9 + C + C*C + C, after a first of 9*C + C.
    assert weights("conv2d") == 10 * 64 + 2 * (64 * 64 * 9 + 64)
    assert weights("dw_striding") == 10 * 64 + 2 * (10 * 64 + 64 * 64 + 64)


def test_gradient_does_not_reach_what_lies_past_a_length() -> None:
    module = ConvSubsampling(input_dim=8, output_dim=4, channels=3, factor=4, method="dw_striding")
    features = torch.randn(1, 24, 8, requires_grad=True)
    hidden, lengths = module(features, torch.tensor([9]))
    hidden[:, : int(lengths)].sum().backward()
    assert features.grad is not None
    assert features.grad[:, :9].abs().sum() > 0
    assert not features.grad[:, 9:].any()
