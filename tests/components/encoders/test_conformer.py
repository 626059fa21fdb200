from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from components.encoders.conformer import ConformerEncoder
from core.errors import ConfigError

BINS = 16


def build(**changes: Any) -> ConformerEncoder:
    settings: dict[str, Any] = {
        "dim": 16,
        "layers": 2,
        "heads": 4,
        "kernel_size": 5,
        "subsampling_channels": 4,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    torch.manual_seed(0)
    encoder = ConformerEncoder(**(settings | changes))
    encoder.setup(input_dim=BINS)
    encoder.double()  # so that what differs is not rounding
    generator = torch.Generator().manual_seed(1)
    for name, parameter in encoder.named_parameters():
        if name.endswith("_bias"):  # zero at first, which would hide the position terms
            parameter.data.normal_(generator=generator)
    return encoder


def batch(lengths: list[int], frames: int | None = None) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    size = frames or max(lengths)
    features = torch.zeros(len(lengths), size, BINS, dtype=torch.float64)
    for row, length in enumerate(lengths):
        features[row, :length] = torch.randn(length, BINS, dtype=torch.float64)
    return features, torch.tensor(lengths)


def weighted(output: Tensor) -> Tensor:
    """A scalar that depends on every output in its own way, padding by its zeros only."""
    frames, dim = output.shape[1:]
    weights = torch.sin(torch.arange(frames * dim, dtype=torch.float32)).view(frames, dim)
    return (output * weights).sum()


def gradients(encoder: ConformerEncoder) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    return found


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(
            left[name],
            right[name],
            atol=1e-9,
            rtol=1e-7,
            msg=lambda text, name=name: f"{name}: {text}",
        )


STREAMING: dict[str, Any] = {
    "conv_norm": "layer_norm",
    "conv_context": "causal",
    "causal_subsampling": True,
    "subsampling": 8,
    "subsampling_method": "dw_striding",
    "attention_context": (4, 1),
    "attention_context_style": "chunked_limited",
}
VARIANTS: list[dict[str, Any]] = [
    STREAMING,
    {"conv_norm": "layer_norm"},
    {"conv_norm": "layer_norm", "subsampling": 8, "subsampling_method": "dw_striding"},
    {"conv_norm": "layer_norm", "attention_context": (3, 1), "scale_input": True, "bias": False},
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_utterance_alone_equals_utterance_in_a_padded_batch(
    variant: dict[str, Any], training: bool
) -> None:
    encoder = build(**variant).train(training)
    lengths = [61, 40, 7]
    features, sizes = batch(lengths)
    together, out_lengths = encoder(features, sizes)
    weighted(together).backward()
    grads_together = gradients(encoder)
    for row, length in enumerate(lengths):
        alone, alone_length = encoder(features[row : row + 1, :length], sizes[row : row + 1])
        assert alone_length.item() == out_lengths[row].item() == alone.shape[1]
        torch.testing.assert_close(alone[0], together[row, : alone.shape[1]], atol=1e-9, rtol=1e-7)
        weighted(alone).backward()  # gradients add up over the three
    assert_same(gradients(encoder), grads_together)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("variant", [{}, {"subsampling": 8, "subsampling_method": "dw_striding"}])
def test_more_padding_changes_nothing_under_batch_norm(
    variant: dict[str, Any], training: bool
) -> None:
    results = []
    for frames in (61, 150):
        encoder = build(**variant).train(training)
        output, _ = encoder(*batch([61, 40, 7], frames))
        weighted(output[:, : (61 + 3) // 4]).backward()
        buffers = {name: value.clone() for name, value in encoder.named_buffers()}
        results.append((output, gradients(encoder), buffers))
    (short, short_grads, short_buffers), (long, long_grads, long_buffers) = results
    torch.testing.assert_close(short, long[:, : short.shape[1]], atol=1e-9, rtol=1e-7)
    assert not long[:, short.shape[1] :].any()
    assert_same(short_grads, long_grads)
    assert_same(short_buffers, long_buffers)


def test_what_lies_past_a_length_is_not_looked_at() -> None:
    encoder = build()
    features, lengths = batch([40, 9])
    dirty = features.clone()
    dirty[1, 9:] = 1e3
    for training in (True, False):
        encoder.train(training)
        torch.testing.assert_close(
            encoder(dirty, lengths)[0], encoder(features, lengths)[0], atol=1e-9, rtol=1e-7
        )


@pytest.mark.parametrize("lengths", [[0], [1], [2, 0], [0, 0], [5, 1, 0]])
@pytest.mark.parametrize("training", [False, True])
def test_very_short_utterances_are_finite_and_empty_ones_zero(
    lengths: list[int], training: bool
) -> None:
    encoder = build().train(training)
    output, out_lengths = encoder(*batch(lengths, max(*lengths, 1)))
    output.sum().backward()
    assert out_lengths.tolist() == [(length + 3) // 4 for length in lengths]
    assert output.isfinite().all()
    for row, length in enumerate(out_lengths.tolist()):
        assert not output[row, length:].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert all(value.isfinite().all() for value in encoder.buffers())


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("method", ["conv2d", "dw_striding"])
@pytest.mark.parametrize("causal", [False, True])
def test_output_lengths_match_the_output(factor: int, method: str, causal: bool) -> None:
    encoder = build(
        subsampling=factor, subsampling_method=method, layers=1, causal_subsampling=causal
    ).eval()
    for frames in range(1, 20):
        output, lengths = encoder(*batch([frames]))
        assert output.shape == (1, int(lengths), 16)
        assert encoder.output_lengths(torch.tensor([frames])).tolist() == lengths.tolist()


def test_causal_subsampling_has_the_sizes_of_three_causal_stages() -> None:
    encoder = ConformerEncoder(causal_subsampling=True, subsampling=8, layers=0, dim=8)
    encoder.setup(input_dim=80)
    assert encoder.output_lengths(torch.tensor([0, 1, 7, 8, 400, 416])).tolist() == [
        *(1, 1, 2, 2, 51, 53)
    ]
    assert encoder.subsample.out.in_features == 256 * 11  # 80 bins, 41, 21, 11


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_streaming_encoder_looks_ahead_to_the_end_of_a_chunk_and_no_further(chunk: int) -> None:
    encoder = build(**(STREAMING | {"attention_context": (-1, chunk - 1)})).eval()
    features, lengths = batch([80])
    for frame in range(6):
        leaf = features.clone().requires_grad_()
        encoder(leaf, lengths)[0][0, frame, 0].backward()
        assert leaf.grad is not None
        last = leaf.grad[0].abs().sum(1).nonzero().max().item()
        assert last == 8 * (frame // chunk * chunk + chunk - 1)  # output n hears inputs up to 8n


def test_context_without_limits_is_no_context() -> None:
    features, lengths = batch([40, 21])
    expected = build().eval()(features, lengths)[0]
    for style in ("regular", "chunked_limited"):
        encoder = build(attention_context=(-1, -1), attention_context_style=style).eval()
        assert torch.equal(encoder(features, lengths)[0], expected)


def test_limited_context_limits_what_an_output_depends_on() -> None:
    encoder = build(layers=1, attention_context=(2, 1), kernel_size=1, conv_norm="layer_norm")
    features, lengths = batch([80])
    features.requires_grad_()
    encoder(features, lengths)[0][0, 10, 0].backward()
    assert features.grad is not None
    touched = features.grad[0].abs().sum(1).nonzero().flatten()
    # Output 10 sees outputs 8..11; output n of two stages of width 3 sees inputs 4n-3..4n+3.
    assert (touched.min().item(), touched.max().item()) == (4 * 8 - 3, 4 * 11 + 3)


def test_layer_drop_is_the_identity_in_evaluation_and_reaches_every_parameter() -> None:
    plain, dropping = build(), build(layer_drop=0.9)
    features, lengths = batch([40, 21])
    torch.testing.assert_close(
        dropping.eval()(features, lengths)[0], plain.eval()(features, lengths)[0]
    )
    dropping.train()(features, lengths)[0].sum().backward()
    for parameter in dropping.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_same_seed_gives_same_weights() -> None:
    first, second = build(), build()
    assert_same(dict(first.named_parameters()), dict(second.named_parameters()))


def test_bf16_autocast_stays_near_fp32() -> None:
    encoder = build().float()
    features, lengths = batch([60, 33])
    features = features.float()
    exact = encoder(features, lengths)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(features, lengths)[0]
    rounded.float().sum().backward()
    torch.testing.assert_close(rounded.float(), exact, atol=0.15, rtol=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    "variant",
    [
        {"attention_context": (3, 2)},
        STREAMING,
        {"mask_subsampling": False, "batch_norm_over": "all_frames", "attention_context": (-1, 2)},
    ],
)
def test_compiles_as_one_graph_with_the_same_gradients(variant: dict[str, Any]) -> None:
    encoder = build(layers=1, **variant)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True, dynamic=True)
    for lengths in ([40, 21], [33, 9]):
        features, sizes = batch(lengths)
        weighted(encoder(features, sizes)[0]).backward()
        expected = gradients(encoder)
        weighted(compiled(features, sizes)[0]).backward()
        assert_same(gradients(encoder), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 18}, "multiple of heads=4, found 18"),
        ({"kernel_size": 4}, "must be odd, found 4"),
        ({"subsampling": 3}, "power of two such as 4 or 8, found 3"),
        ({"layer_drop": 1.0}, "must be in .0, 1., found 1.0"),
        ({"attention_context": (-2, 0)}, r"must not be negative.*found \(-2, 0\)"),
        (
            {"attention_context": (5, 3), "attention_context_style": "chunked_limited"},
            r"chunks of 4 frames.* such as 4 or 8; found attention_context=\(5, 3\)",
        ),
        ({"conv_context": (3, 3)}, r"make up kernel_size=5, found \(3, 3\)"),
        ({"conv_context": (5, -1)}, r"make up kernel_size=5, found \(5, -1\)"),
        ({"conv_norm": "layer_norm", "batch_norm_over": "all_frames"}, "changes nothing where"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**changes)
