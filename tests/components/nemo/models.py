"""Tasks to convert, and NeMo's names and shapes written down from its module tree alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.quantizers.random_projection import RandomProjectionQuantizer
from components.tasks.masked_prediction import MaskedPredictionTask
from core.contracts import RunContext

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest"
MINI: dict[str, Any] = {
    "dim": 32,
    "layers": 2,
    "heads": 4,
    "kernel_size": 9,
    "subsampling": 8,
    "subsampling_method": "dw_striding",
    "subsampling_channels": 8,
    "scale_input": True,
}


def make_task(*, books: int = 1, classes: int = 64, mels: int = 80, **encoder: Any) -> nn.Module:
    """Return a pre-training task, every parameter random, none zero."""
    settings = MINI | encoder
    task = MaskedPredictionTask(
        features=LogMel(num_bins=mels),
        masking=RandomBlockMasking(),
        quantizer=RandomProjectionQuantizer(
            num_books=books, codebook_size=classes, stack=settings["subsampling"]
        ),
        encoder=ConformerEncoder(**settings),
        head=MultiSoftmaxHead(),
        loss=MaskedPredictionLoss(),
    )
    task.setup(RunContext(assets=Path("unused")))
    generator = torch.Generator().manual_seed(5)
    for tensor in task.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
    return task


def nemo_shapes(
    *,
    dim: int,
    layers: int,
    heads: int,
    kernel: int,
    channels: int,
    mels: int = 80,
    bias: bool = True,
    norm: str = "batch_norm",
    method: str = "dw_striding",
    factor: int = 8,
    books: int = 1,
    classes: int = 8192,
    causal: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of NeMo's state dict of a pre-training model."""
    shapes: dict[str, tuple[int, ...]] = {
        "preprocessor.featurizer.window": (400,),
        "preprocessor.featurizer.fb": (1, mels, 257),
        "quantizer.codebooks": (books, classes, 16),
        "quantizer.proj.weight": (books * 16, mels * factor),
        "mask_processor.mask_embedding": (mels,),
        "decoder.decoder_layers.0.weight": (classes * books, dim, 1),
        "decoder.decoder_layers.0.bias": (classes * books,),
        "encoder.pre_encode.conv.0.weight": (channels, 1, 3, 3),
        "encoder.pre_encode.conv.0.bias": (channels,),
    }
    bins, index = mels // 2 + 1 if causal else (mels + 1) // 2, 2
    for _ in range(factor.bit_length() - 2):
        bins = bins // 2 + 1 if causal else (bins + 1) // 2
        place = f"encoder.pre_encode.conv.{index}"
        if method == "dw_striding":
            following = f"encoder.pre_encode.conv.{index + 1}"
            shapes |= {f"{place}.weight": (channels, 1, 3, 3), f"{place}.bias": (channels,)}
            shapes |= {f"{following}.weight": (channels, channels, 1, 1)}
            shapes |= {f"{following}.bias": (channels,)}
            index += 3
        else:
            shapes |= {f"{place}.weight": (channels, channels, 3, 3), f"{place}.bias": (channels,)}
            index += 2
    shapes |= {"encoder.pre_encode.out.weight": (dim, channels * bins)}
    shapes |= {"encoder.pre_encode.out.bias": (dim,)}
    for layer in range(layers):
        for name, shape in _layer(dim, heads, kernel, bias, norm).items():
            shapes[f"encoder.layers.{layer}.{name}"] = shape
    return shapes


def _layer(dim: int, heads: int, kernel: int, bias: bool, norm: str) -> dict[str, tuple[int, ...]]:
    weights: dict[str, tuple[int, ...]] = {
        "conv.pointwise_conv1": (2 * dim, dim, 1),
        "conv.depthwise_conv": (dim, 1, kernel),
        "conv.pointwise_conv2": (dim, dim, 1),
    }
    for number in (1, 2):
        weights[f"feed_forward{number}.linear1"] = (4 * dim, dim)
        weights[f"feed_forward{number}.linear2"] = (dim, 4 * dim)
    weights |= {f"self_attn.linear_{part}": (dim, dim) for part in ("q", "k", "v", "out")}
    found = {f"{name}.weight": shape for name, shape in weights.items()}
    if bias:
        found |= {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    norms = ("feed_forward1", "conv", "self_att", "feed_forward2", "out")
    for name in (*(f"norm_{norm_name}" for norm_name in norms), "conv.batch_norm"):
        found |= {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
    if norm == "batch_norm":
        found |= {f"conv.batch_norm.running_{kind}": (dim,) for kind in ("mean", "var")}
        found["conv.batch_norm.num_batches_tracked"] = ()
    found["self_attn.linear_pos.weight"] = (dim, dim)
    found |= {f"self_attn.pos_bias_{part}": (heads, dim // heads) for part in "uv"}
    return found


def nemo_state(**settings: Any) -> dict[str, Tensor]:
    """Return random tensors of :func:`nemo_shapes`, with the features' own."""
    generator = torch.Generator().manual_seed(11)
    state = {
        name: torch.randn(shape, generator=generator)
        for name, shape in nemo_shapes(**settings).items()
    }
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = tensor.to(torch.int64) * 0
    state["quantizer.codebooks"] = state["quantizer.codebooks"].double()
    features = LogMel(num_bins=settings.get("mels", 80))
    state["preprocessor.featurizer.window"] = features.window.clone()
    state["preprocessor.featurizer.fb"] = features.filters.T.unsqueeze(0).contiguous()
    return state
