"""The convolution module of the Conformer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.masked_batch_norm import CountedFrames, MaskedBatchNorm
from core.errors import ConfigError

ConvNorm = Literal["batch_norm", "layer_norm"]
ConvContext = Literal["centred", "causal"] | tuple[int, int]


class ConvolutionModule(nn.Module):
    """Pointwise with GLU, depthwise, norm, SiLU, pointwise (Gulati et al. 2020, figure 2).

    Frames past a length are zeroed before the depthwise convolution, the only step that mixes
    frames.

    Args:
        dim: width of input and output.
        kernel_size: frames that the depthwise convolution sees.
        norm: ``batch_norm`` over the frames of a batch, or ``layer_norm`` over the channels of a
            frame.
        bias: whether the convolutions have biases.
        context: where those frames lie; see :func:`frames_around`.
        batch_norm_over: frames that batch statistics count.
    """

    def __init__(
        self,
        *,
        dim: int,
        kernel_size: int,
        norm: ConvNorm,
        bias: bool = True,
        context: ConvContext = "centred",
        batch_norm_over: CountedFrames = "real_frames",
    ) -> None:
        super().__init__()
        left, right = frames_around(context, kernel_size)
        on_both_sides = min(left, right)
        self.on_one_side = (left - on_both_sides, right - on_both_sides)
        self.pointwise1 = nn.Linear(dim, 2 * dim, bias=bias)
        self.depthwise = nn.Conv1d(
            dim, dim, kernel_size, padding=on_both_sides, groups=dim, bias=bias
        )
        self.norm: nn.Module = (
            MaskedBatchNorm(dim=dim, over=batch_norm_over)
            if norm == "batch_norm"
            else nn.LayerNorm(dim)
        )
        self.pointwise2 = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``valid`` is (B, T) bool, true for real frames."""
        x = F.glu(self.pointwise1(x), dim=-1)
        x = x * valid.unsqueeze(-1).to(x.dtype)
        if any(self.on_one_side):
            x = F.pad(x, (0, 0, *self.on_one_side))
        x = depthwise_over_time(x, self.depthwise, self._depthwise_bias())
        x = self.norm(x, valid) if isinstance(self.norm, MaskedBatchNorm) else self.norm(x)
        hidden: Tensor = self.pointwise2(F.silu(x))
        return hidden

    def _depthwise_bias(self) -> Tensor | None:
        """Return the bias of the depthwise convolution, with gradient zero before batch statistics.

        They take any constant out again, so its true gradient is zero. Adam would make full steps
        of what rounding leaves of that.
        """
        bias = self.depthwise.bias
        if bias is None or not (isinstance(self.norm, MaskedBatchNorm) and self.norm.training):
            return bias
        return bias.detach() + 0.0 * bias


def frames_around(context: ConvContext, kernel_size: int) -> tuple[int, int]:
    """Return how many frames a convolution sees before and after the one it is at.

    Args:
        context: ``centred`` for as many on either side, ``causal`` for none after, or both counts.
        kernel_size: frames that it sees in all.

    Raises:
        ConfigError: the counts and the frame itself do not make up the kernel.
    """
    if context == "centred":
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"encoder: kernel_size of a centred convolution must be odd, found {kernel_size}"
            )
        return kernel_size // 2, kernel_size // 2
    if context == "causal":
        return kernel_size - 1, 0
    left, right = context
    if min(left, right) < 0 or left + 1 + right != kernel_size:
        raise ConfigError(
            "encoder: conv_context must be two counts of frames that with the frame between them "
            f"make up kernel_size={kernel_size}, found {context}"
        )
    return left, right


def depthwise_over_time(x: Tensor, convolution: nn.Conv1d, bias: Tensor | None) -> Tensor:
    """Apply a depthwise convolution to (B, T, D), channels last, and return (B, T', D)."""
    x = x.transpose(1, 2)
    padding, groups = int(convolution.padding[0]), convolution.groups
    # oneDNN 3.10 does not return from the image form in bfloat16 with 8 or 16 channels.
    in_doubt = x.dtype != torch.float32 and x.shape[1] % 32 != 0
    if x.device.type != "cpu" or in_doubt:
        sequence = F.conv1d(x, convolution.weight, bias, padding=padding, groups=groups)
        return sequence.transpose(1, 2)
    # As an image of height 1 the channels stay last in memory, where one dimension would be
    # reordered: a third of the time, forward and backward.
    image = F.conv2d(
        x.unsqueeze(2),
        convolution.weight.unsqueeze(2),
        bias,
        padding=(0, padding),
        groups=groups,
    )
    return image.squeeze(2).transpose(1, 2)
