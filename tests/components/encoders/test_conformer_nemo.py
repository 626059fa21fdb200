"""The encoder against NeMo's activations and NeMo's counts of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest"
FAST: dict[str, Any] = {
    "kernel_size": 9,
    "subsampling": 8,
    "subsampling_method": "dw_striding",
    "scale_input": True,
}
LAYER0 = {
    "norm_feed_forward1": "norm_feed_forward1",
    "feed_forward1": "feed_forward1",
    "norm_self_att": "norm_attention",
    "self_attn": "attention",
    "norm_conv": "norm_convolution",
    "conv": "convolution",
    "norm_feed_forward2": "norm_feed_forward2",
    "feed_forward2": "feed_forward2",
    "norm_out": "norm_out",
}
"""Submodules of a layer: NeMo's names to ours."""


def from_nemo(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Map a FastConformer's weights, by NeMo's names, to those of ConformerEncoder."""
    out = state["pre_encode.out.weight"].unflatten(1, (state["pre_encode.conv.0.bias"].numel(), -1))
    ours = {
        "subsample.out.weight": out.transpose(1, 2).flatten(1),  # theirs reads channel by channel
        "subsample.out.bias": state["pre_encode.out.bias"],
    }
    places = {0: "0", 2: "1.0", 3: "1.1", 5: "2.0", 6: "2.1"}
    for index, place in places.items():
        for kind in ("weight", "bias"):
            ours[f"subsample.stages.{place}.{kind}"] = state[f"pre_encode.conv.{index}.{kind}"]
    renamed = {
        "norm_feed_forward1": "norm_feed_forward1",
        "norm_feed_forward2": "norm_feed_forward2",
        "norm_self_att": "norm_attention",
        "norm_conv": "norm_convolution",
        "norm_out": "norm_out",
        "feed_forward1.linear1": "feed_forward1.linear1",
        "feed_forward1.linear2": "feed_forward1.linear2",
        "feed_forward2.linear1": "feed_forward2.linear1",
        "feed_forward2.linear2": "feed_forward2.linear2",
        "conv.pointwise_conv1": "convolution.pointwise1",
        "conv.depthwise_conv": "convolution.depthwise",
        "conv.batch_norm": "convolution.norm",
        "conv.pointwise_conv2": "convolution.pointwise2",
        "self_attn.linear_out": "attention.out",
        "self_attn.linear_pos": "attention.position",
    }
    for layer in range(layers):
        source = {
            name.removeprefix(f"layers.{layer}."): tensor
            for name, tensor in state.items()
            if name.startswith(f"layers.{layer}.")
        }
        target = f"layers.{layer}."
        for theirs, mine in renamed.items():
            for kind in ("weight", "bias", "running_mean", "running_var"):
                if f"{theirs}.{kind}" in source:
                    tensor = source[f"{theirs}.{kind}"]
                    pointwise = "pointwise" in theirs and kind == "weight"
                    ours[f"{target}{mine}.{kind}"] = tensor.squeeze(2) if pointwise else tensor
        for kind in ("weight", "bias"):
            parts = [source[f"self_attn.linear_{part}.{kind}"] for part in "qkv"]
            ours[f"{target}attention.qkv.{kind}"] = torch.cat(parts)
        ours[f"{target}attention.content_bias"] = source["self_attn.pos_bias_u"]
        ours[f"{target}attention.position_bias"] = source["self_attn.pos_bias_v"]
    return ours


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def from_golden() -> ConformerEncoder:
    encoder = ConformerEncoder(dim=32, layers=2, heads=4, subsampling_channels=8, **FAST)
    encoder.setup(input_dim=80)
    state = load_file(GOLDEN / "mini_state.safetensors")
    encoder.load_state_dict(from_nemo(under("encoder.", state), layers=2), strict=True)
    return encoder.eval()


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
def test_output_equals_nemo() -> None:
    golden = load_file(GOLDEN / "mini_io.safetensors")
    encoder = from_golden()
    for features, expected in (("masked_feats", "encoded"), ("noisy_feats", "encoded_unmasked")):
        output, lengths = encoder(golden[features].transpose(1, 2), golden["noisy_feats_len"])
        assert lengths.tolist() == golden["encoded_len"].tolist()
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(
                output[row, :length], golden[expected][row, :, :length].T, atol=1e-5, rtol=0
            )


def outputs_of(encoder: ConformerEncoder, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run the encoder and return what its modules gave, by the names of NeMo's activations."""
    modules: dict[str, nn.Module] = {
        "act.pre_encode.0": encoder.subsample,
        "act.pos_enc.0": encoder.dropout,  # after scaling
        "act.layers.0": encoder.layers[0],
        "act.layers.1": encoder.layers[1],
    }
    for theirs, ours in LAYER0.items():
        modules[f"act.layers.0.{theirs}"] = encoder.layers[0].get_submodule(ours)
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, tuple):
                output, found["act.pre_encode.1"] = output
            if name == "act.layers.0":
                found["act.pos_enc.1"] = arguments[1].unsqueeze(0)
            found[name] = output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    encoder(golden["masked_feats"].transpose(1, 2), golden["noisy_feats_len"])
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
def test_every_activation_equals_nemo() -> None:
    golden = load_file(GOLDEN / "mini_io.safetensors")
    found = outputs_of(from_golden(), golden)
    assert found.keys() == {name for name in golden if name.startswith("act.")}
    lengths = golden["encoded_len"]
    assert torch.equal(found.pop("act.pre_encode.1"), lengths)
    positions = found.pop("act.pos_enc.1")[:, :-1]  # the last row is there for alignment only
    torch.testing.assert_close(positions, golden["act.pos_enc.1"], atol=1e-5, rtol=0)
    for name, output in found.items():
        assert output.shape == golden[name].shape
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(
                output[row, :length],
                golden[name][row, :length],
                atol=1e-5,
                rtol=0,
                msg=lambda text, name=name: f"{name}: {text}",
            )
    for name in ("act.pre_encode.0", "act.pos_enc.0"):  # these agree in padding as well
        torch.testing.assert_close(found[name], golden[name], atol=1e-5, rtol=0)


SMALL = {"dim": 176, "heads": 4, "layers": 16}
MEDIUM = {"dim": 256, "heads": 4, "layers": 16}
LARGE = {"dim": 512, "heads": 8, "layers": 17}
XLARGE = {"dim": 1024, "heads": 8, "layers": 24, "bias": False, "scale_input": False}
XXLARGE = XLARGE | {"layers": 42, "kernel_size": 5}


@pytest.mark.parametrize(
    ("size", "bins", "expected"),
    [
        (SMALL, 80, 12_600_240),
        (MEDIUM, 80, 26_128_640),
        (LARGE, 80, 108_762_112),
        (LARGE, 128, 109_548_544),
        (LARGE | {"layers": 18}, 80, 115_074_560),  # the released weights
        (XLARGE, 80, 607_306_752),
        (XXLARGE, 80, 1_060_543_488),
    ],
)
def test_parameter_counts_of_the_published_sizes(
    size: dict[str, Any], bins: int, expected: int
) -> None:
    with torch.device("meta"):
        encoder = ConformerEncoder(**(FAST | size))
        encoder.setup(input_dim=bins)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
def test_gradients_of_a_training_step_equal_nemo() -> None:
    """Batch statistics over all frames; over real ones the loss would be off by 2e-3."""
    state = load_file(GOLDEN / "mini_train_init_state.safetensors")
    golden = load_file(GOLDEN / "mini_train.safetensors")
    encoder = ConformerEncoder(
        dim=32,
        layers=2,
        heads=4,
        subsampling_channels=8,
        dropout=0.0,
        attention_dropout=0.0,
        batch_norm_over="all_frames",
        **FAST,
    )
    encoder.setup(input_dim=80)
    encoder.load_state_dict(from_nemo(under("encoder.", state), layers=2), strict=True)
    heard, lengths = LogMel(pad_to=16)(golden["noisy.0"], golden["audio_len"])
    masks = golden["masks_time.0"]
    embedding = state["mask_processor.mask_embedding"]
    hidden, _ = encoder(torch.where(masks.bool().unsqueeze(-1), embedding, heard), lengths)
    weight, bias = (state[f"decoder.decoder_layers.0.{kind}"] for kind in ("weight", "bias"))
    log_probs = (hidden @ weight.squeeze(2).T + bias).log_softmax(-1)
    counted = masks.view(2, -1, 8).mean(-1) > 0.8
    loss = -log_probs.gather(-1, golden["tokens.0"]).squeeze(-1)[counted].mean()
    torch.testing.assert_close(loss, golden["losses"][0], atol=1e-5, rtol=0)
    loss.backward()
    expected = from_nemo(under("grad.encoder.", golden), layers=2)
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad,
            expected.pop(name),
            atol=1e-5,
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    assert not expected
