"""A bound on the emotion vector, so that it cannot grow where it should forget."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from core.contracts import LossSum
from core.errors import ConfigError, suggest
from core.registry import register

Bound = Literal["none", "rms"]
_TINY = 1e-12


@register("bound", "emotion")
class EmotionBound(nn.Module):
    """Give every emotion vector the same root mean square, or leave it as it is.

    An encoder can win against a reversed gradient by blowing its output up, which makes a frozen
    classifier wrong and hides nothing. Put this where the vector leaves the emotion branch, so that
    the language model and the classifiers get the same one: bounding the classifiers' input alone
    changes nothing that the model learns.

    Args:
        bound: ``rms`` divides each vector by its root mean square and multiplies by ``target``;
            ``none`` is the identity.
        target: root mean square of what comes out. :meth:`calibrate` replaces it by that of a
            trained model, whose other parts expect that scale. It is saved with the weights.
    """

    target: Tensor

    def __init__(self, *, bound: Bound = "none", target: float = 1.0) -> None:
        super().__init__()
        if bound not in get_args(Bound):
            raise ConfigError(
                f"bound/emotion: there is no bound {bound!r}; "
                f"{suggest(bound, get_args(Bound), noun='bounds')}"
            )
        if not target > 0.0:
            raise ConfigError(f"bound/emotion: target must be positive, but is {target}")
        self.bound: Bound = bound
        self.register_buffer("target", torch.tensor(float(target)))

    def forward(self, emotion: Tensor) -> Tensor:
        """Map (B, D) to (B, D) of the same dtype; computed in float32."""
        if self.bound == "none":
            return emotion
        return (emotion.float() * (self.target / _rms(emotion))).to(emotion.dtype)

    @torch.no_grad()
    def calibrate(self, emotion: Tensor) -> None:
        """Take the mean root mean square of (B, D) emotion vectors for ``target``."""
        self.target.copy_(_rms(emotion).mean())


def norm_penalty(emotion: Tensor, *, free: float = 0.0) -> LossSum:
    """Return the squared excess of each vector's root mean square over ``free``, summed over rows.

    Args:
        emotion: (B, D), not bounded.
        free: root mean square up to which a vector costs nothing.
    """
    excess = (_rms(emotion) - free).clamp_min(0.0)
    return LossSum(total=excess.square().sum(), count=float(len(emotion)))


def _rms(emotion: Tensor) -> Tensor:
    """Return (B, 1) root mean squares in float32, with a gradient at zero."""
    return emotion.float().square().mean(1, keepdim=True).add(_TINY).sqrt()
