"""Every form of the encoder against a second one, written as loops over frames in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from components.encoders.conformer import ConformerEncoder
from tests.components.encoders.slow_conformer import SlowConformer

BINS = 13
FRAMES = 61
LENGTHS = (61, 38, 3)
FORMS: dict[str, dict[str, Any]] = {
    "conformer": {},
    "fast": {"subsampling": 8, "subsampling_method": "dw_striding", "scale_input": True},
    "xlarge": {"subsampling": 8, "subsampling_method": "dw_striding", "bias": False},
    "layer norm": {"conv_norm": "layer_norm"},
    "band": {"attention_context": (3, 2)},
    "all of the left": {"attention_context": (-1, 1)},
    "all of the right": {"attention_context": (3, -1)},
    "no limits": {"attention_context": (-1, -1)},
    "chunks": {"attention_context": (6, 2), "attention_context_style": "chunked_limited"},
    "chunks of one": {"attention_context": (4, 0), "attention_context_style": "chunked_limited"},
    "own chunk": {"attention_context": (0, 3), "attention_context_style": "chunked_limited"},
    "all chunks back": {"attention_context": (-1, 3), "attention_context_style": "chunked_limited"},
    "no chunks": {"attention_context": (3, -1), "attention_context_style": "chunked_limited"},
    "causal convolution": {"conv_context": "causal"},
    "causal even convolution": {"conv_context": "causal", "kernel_size": 4},
    "convolution to the left": {"conv_context": (3, 1)},
    "convolution to the right": {"conv_context": (0, 4)},
    "causal subsampling": {"causal_subsampling": True},
    "causal striding": {
        "causal_subsampling": True,
        "subsampling": 8,
        "subsampling_method": "dw_striding",
    },
    "streaming": {
        "causal_subsampling": True,
        "subsampling": 8,
        "subsampling_method": "dw_striding",
        "conv_context": "causal",
        "conv_norm": "layer_norm",
        "attention_context": (4, 1),
        "attention_context_style": "chunked_limited",
        "scale_input": True,
    },
    "leaking": {"mask_subsampling": False, "subsampling_method": "dw_striding"},
    "leaking causal": {"mask_subsampling": False, "causal_subsampling": True},
}


def randomised(settings: dict[str, Any]) -> ConformerEncoder:
    """Build an encoder none of whose terms is hidden by a zero or a one."""
    torch.manual_seed(0)
    encoder = ConformerEncoder(**settings)
    encoder.setup(input_dim=BINS)
    encoder.double().eval()
    with torch.no_grad():
        for name, value in encoder.state_dict().items():
            if value.ndim == 1 or name.endswith("_bias"):
                value.add_(0.3 * torch.randn_like(value))
            if name.endswith("running_var"):
                value.abs_().add_(0.1)
    return encoder


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_equals_loops_over_frames(form: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"dim": 8, "layers": 2, "heads": 2, "kernel_size": 5}
    settings |= {"subsampling_channels": 3} | form
    encoder = randomised(settings)
    features = torch.randn(len(LENGTHS), FRAMES, BINS, dtype=torch.float64)
    lengths = torch.tensor(LENGTHS)
    with torch.no_grad():
        output, output_lengths = encoder(features, lengths)
    slow = SlowConformer(
        weights={name: value.numpy() for name, value in encoder.state_dict().items()},
        settings=settings,
    )
    assert encoder.output_lengths(lengths).tolist() == output_lengths.tolist()
    for row, length in enumerate(LENGTHS):
        expected = slow(features[row].numpy(), length)
        assert len(expected) == output_lengths[row]
        # The encoder's sinusoids are float32.
        np.testing.assert_allclose(output[row, : len(expected)].numpy(), expected, atol=2e-6)
        assert not output[row, len(expected) :].any()
