"""Names and layouts: against golden files, and against NeMo's module tree written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from components.encoders.conformer import ConformerEncoder
from components.nemo.convert import from_nemo, to_nemo
from core.errors import CheckpointError
from tests.components.nemo.models import GOLDEN, nemo_state

SMALL: dict[str, Any] = {
    "dim": 8,
    "layers": 2,
    "heads": 2,
    "kernel": 5,
    "channels": 3,
    "classes": 6,
}
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"bias": False, "norm": "layer_norm"},
    {"books": 3, "mels": 20},
    {"method": "striding", "factor": 8},
    {"method": "striding", "factor": 4, "layers": 12},
    {"factor": 4},
    {"factor": 2},
    {"causal": True, "norm": "layer_norm"},
]


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_there_and_back_gives_every_tensor_again_bit_for_bit(changes: dict[str, Any]) -> None:
    state = nemo_state(**(SMALL | changes))
    ours = from_nemo(state)
    assert ours.left_out == ()
    again = to_nemo(ours.state)
    assert again.left_out == ()
    assert again.state.keys() == state.keys()
    for name, tensor in state.items():
        assert again.state[name].dtype == tensor.dtype, name
        assert torch.equal(again.state[name], tensor), name


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_names_and_shapes_are_those_of_the_encoder(changes: dict[str, Any]) -> None:
    settings = SMALL | changes
    encoder = ConformerEncoder(
        dim=settings["dim"],
        layers=settings["layers"],
        heads=settings["heads"],
        kernel_size=settings["kernel"],
        subsampling=settings.get("factor", 8),
        subsampling_method="conv2d" if settings.get("method") == "striding" else "dw_striding",
        subsampling_channels=settings["channels"],
        causal_subsampling=settings.get("causal", False),
        conv_norm=settings.get("norm", "batch_norm"),
        bias=settings.get("bias", True),
    )
    encoder.setup(input_dim=settings.get("mels", 80))
    ours = from_nemo(nemo_state(**settings)).state
    weights = {n.removeprefix("encoder."): t for n, t in ours.items() if n.startswith("encoder.")}
    encoder.load_state_dict(weights, strict=True)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
@pytest.mark.parametrize("file", ["mini_state", "mini_train_init_state"])
def test_golden_state_there_and_back(file: str) -> None:
    state = load_file(GOLDEN / f"{file}.safetensors")
    ours = from_nemo(state)
    assert ours.left_out == ()
    again = to_nemo(ours.state).state
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_an_encoder_alone_may_come_without_its_prefix() -> None:
    state = nemo_state(**SMALL)
    encoder = {n.removeprefix("encoder."): t for n, t in state.items() if n.startswith("encoder.")}
    ours = from_nemo(encoder).state
    whole = from_nemo(state).state
    assert ours.keys() == {name for name in whole if name.startswith("encoder.")}


def test_what_has_no_place_is_named() -> None:
    extra = ("decoder_ssl.decoder_layers.0.weight", "loss.x", "encoder.pre_encode.conv.4.weight")
    state = nemo_state(**SMALL) | dict.fromkeys(extra, torch.ones(2))
    found = from_nemo(state)
    assert found.left_out == extra
    assert found.notes == ("2 counts of batches (num_batches_tracked) are of no use here",)


def test_shared_position_biases() -> None:
    state = nemo_state(**SMALL)
    for part in "uv":
        state[f"encoder.pos_bias_{part}"] = torch.full((2, 4), 7.0)
    found = from_nemo(state)
    assert "encoder.pos_bias_u is not used: every layer has a copy of its own" in found.notes
    own = state.pop("encoder.layers.0.self_attn.pos_bias_u")
    del state["encoder.layers.1.self_attn.pos_bias_u"]
    found = from_nemo(state)
    assert "encoder.pos_bias_u goes into 2 layers" in found.notes
    for layer in range(2):
        bias = found.state[f"encoder.layers.{layer}.attention.content_bias"]
        assert torch.equal(bias, torch.full((2, 4), 7.0))
        assert not torch.equal(bias, own)


def test_queries_without_keys_are_refused() -> None:
    state = nemo_state(**SMALL)
    del state["encoder.layers.1.self_attn.linear_k.weight"]
    with pytest.raises(CheckpointError, match=r"without encoder\.layers\.1\.self_attn\.linear_k"):
        from_nemo(state)


def test_a_shape_that_its_name_does_not_allow_is_refused() -> None:
    state = nemo_state(**(SMALL | {"books": 2}))
    state["decoder.decoder_layers.0.weight"] = torch.ones(7, 8, 1)
    with pytest.raises(
        CheckpointError, match=r"decoder_layers\.0\.weight \[7, 8, 1\].*2 codebooks"
    ):
        from_nemo(state)


def test_layouts_compute_the_same() -> None:
    """Each layout against the operation that NeMo's form of the tensor stands for."""
    state = nemo_state(**(SMALL | {"books": 3, "mels": 16}))
    ours = from_nemo(state).state
    hidden = torch.randn(2, 5, 8)
    logits = F.conv1d(
        hidden.transpose(1, 2),
        state["decoder.decoder_layers.0.weight"],
        state["decoder.decoder_layers.0.bias"],
    )  # (B, V * C, T), class * books + book
    expected = logits.transpose(1, 2).reshape(2, 5, 6, 3).transpose(2, 3)
    found = torch.einsum("btd,cvd->btcv", hidden, ours["head.weight"]) + ours["head.bias"]
    torch.testing.assert_close(found, expected)
    stacked = torch.randn(4, 16 * 8)
    expected = F.linear(stacked, state["quantizer.proj.weight"]).view(4, 3, 16)
    found = torch.einsum("nf,cfk->nck", stacked, ours["quantizer.projection"])
    torch.testing.assert_close(found, expected)
    maps = torch.randn(2, 3, 7, 2)  # channels, frames, bins
    expected = F.linear(maps.transpose(1, 2).flatten(2), state["encoder.pre_encode.out.weight"])
    found = F.linear(maps.permute(0, 2, 3, 1).flatten(2), ours["encoder.subsample.out.weight"])
    torch.testing.assert_close(found, expected)


def test_a_head_of_a_transcribing_task_is_left_out() -> None:
    found = to_nemo({"head.weight": torch.ones(5, 8), "head.bias": torch.ones(5)})
    assert found.state == {}
    assert found.left_out == ("head.weight", "head.bias")


def test_counts_of_batches_can_be_given() -> None:
    ours = from_nemo(nemo_state(**SMALL)).state
    counts = [v for n, v in to_nemo(ours, batches=9).state.items() if n.endswith("_tracked")]
    assert [(int(count), count.dtype) for count in counts] == [(9, torch.int64)] * 2
