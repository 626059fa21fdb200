"""The convolution module of the Conformer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.masked_batch_norm import MaskedBatchNorm

ConvNorm = Literal["batch_norm", "layer_norm"]


class ConvolutionModule(nn.Module):
    """Pointwise with GLU, depthwise, norm, SiLU, pointwise (Gulati et al. 2020, figure 2).

    Frames past a length are zeroed before the depthwise convolution, the only step that mixes
    frames, and are left out of batch statistics.

    Args:
        dim: width of input and output.
        kernel_size: frames that the depthwise convolution sees; odd.
        norm: ``batch_norm`` over real frames, or ``layer_norm`` over the channels of a frame.
        bias: whether the convolutions have biases.
    """

    def __init__(self, *, dim: int, kernel_size: int, norm: ConvNorm, bias: bool = True) -> None:
        super().__init__()
        self.pointwise1 = nn.Linear(dim, 2 * dim, bias=bias)
        self.depthwise = nn.Conv1d(
            dim, dim, kernel_size, padding=(kernel_size - 1) // 2, groups=dim, bias=bias
        )
        self.norm: nn.Module = (
            MaskedBatchNorm(dim=dim) if norm == "batch_norm" else nn.LayerNorm(dim)
        )
        self.pointwise2 = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``valid`` is (B, T) bool, true for real frames."""
        x = F.glu(self.pointwise1(x), dim=-1)
        x = x * valid.unsqueeze(-1).to(x.dtype)
        x = depthwise_over_time(x, self.depthwise)
        x = self.norm(x, valid) if isinstance(self.norm, MaskedBatchNorm) else self.norm(x)
        hidden: Tensor = self.pointwise2(F.silu(x))
        return hidden


def depthwise_over_time(x: Tensor, convolution: nn.Conv1d) -> Tensor:
    """Apply a depthwise convolution to (B, T, D), channels last, and return (B, T', D)."""
    x = x.transpose(1, 2)
    # oneDNN 3.10 does not return from the image form in bfloat16 with 8 or 16 channels.
    in_doubt = x.dtype != torch.float32 and x.shape[1] % 32 != 0
    if x.device.type != "cpu" or in_doubt:
        return convolution(x).transpose(1, 2)  # type: ignore[no-any-return]
    # As an image of height 1 the channels stay last in memory, where one dimension would be
    # reordered: a third of the time, forward and backward.
    image = F.conv2d(
        x.unsqueeze(2),
        convolution.weight.unsqueeze(2),
        convolution.bias,
        padding=(0, int(convolution.padding[0])),
        groups=convolution.groups,
    )
    return image.squeeze(2).transpose(1, 2)
