from __future__ import annotations

import pytest
import torch

from components.encoders.blstm import BLSTMEncoder
from core.errors import ConfigError


def build() -> BLSTMEncoder:
    torch.manual_seed(0)
    encoder = BLSTMEncoder(dim=8, layers=2, subsampling_channels=4, dropout=0.0)
    encoder.setup(input_dim=10)
    return encoder.double()


@pytest.mark.parametrize("training", [False, True])
def test_utterance_alone_equals_utterance_in_a_padded_batch(training: bool) -> None:
    encoder = build().train(training)
    lengths = torch.tensor([30, 17, 2])
    features = torch.randn(3, 41, 10, dtype=torch.float64)
    together, out_lengths = encoder(features, lengths)
    together.square().sum().backward()
    grads = [parameter.grad.clone() for parameter in encoder.parameters()]
    encoder.zero_grad()
    for row, length in enumerate(lengths.tolist()):
        alone, _ = encoder(features[row : row + 1, :length], lengths[row : row + 1])
        alone.square().sum().backward()
        assert alone.shape[1] == out_lengths[row]
        torch.testing.assert_close(alone[0], together[row, : alone.shape[1]])
        assert not together[row, alone.shape[1] :].any()
    for parameter, grad in zip(encoder.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def test_empty_utterances_give_zeros() -> None:
    output, lengths = build()(torch.zeros(2, 1, 10).double(), torch.tensor([0, 0]))
    assert lengths.tolist() == [0, 0]
    assert output.shape == (2, 1, 8)
    assert not output.any()


def test_output_lengths_match_the_output() -> None:
    encoder = build()
    for frames in range(1, 12):
        output, lengths = encoder(torch.zeros(1, frames, 10).double(), torch.tensor([frames]))
        assert output.shape[1] == lengths.item()
        assert encoder.output_lengths(torch.tensor([frames])).tolist() == lengths.tolist()


def test_odd_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="two directions, found 7"):
        BLSTMEncoder(dim=7)
