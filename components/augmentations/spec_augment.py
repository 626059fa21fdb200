"""Masks over frequency bands and stretches of time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.registry import register


@register("augmentation", "spec_augment")
class SpecAugment(nn.Module):
    """SpecAugment (Park et al. 2019) without time warping; the identity in evaluation.

    Every utterance has masks of its own. Widths and positions are uniform, drawn from torch's
    global generator on the device of the features. Masked values become 0, which is the mean of
    normalised features.

    Args:
        frequency_masks: masks over bins, for each utterance.
        frequency_width: largest number of bins in one mask.
        time_masks: masks over frames, for each utterance.
        time_width: largest number of frames in one mask.
        time_share: largest width of one mask as a share of the utterance's frames, which keeps
            short utterances legible.
    """

    def __init__(
        self,
        *,
        frequency_masks: int = 2,
        frequency_width: int = 27,
        time_masks: int = 10,
        time_width: int = 100,
        time_share: float = 0.05,
    ) -> None:
        super().__init__()
        if not 0.0 <= time_share <= 1.0:
            raise ConfigError(f"spec_augment: time_share must be from 0 to 1, found {time_share}")
        self.frequency_masks = frequency_masks
        self.frequency_width = frequency_width
        self.time_masks = time_masks
        self.time_width = time_width
        self.time_share = time_share

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) to (B, T, F).

        Args:
            features: normalised features.
            lengths: (B,) int64 frame counts; time masks lie inside them.
        """
        if not self.training:
            return features
        batch, frames, bins = features.shape
        all_bins = torch.full((batch,), bins, device=features.device)
        bin_widths = all_bins.clamp(max=self.frequency_width)
        frame_widths = (lengths * self.time_share).long().clamp(max=self.time_width)
        over_bins = random_spans(all_bins, bin_widths, self.frequency_masks, size=bins)
        over_frames = random_spans(lengths, frame_widths, self.time_masks, size=frames)
        return features.masked_fill(over_bins.unsqueeze(1) | over_frames.unsqueeze(2), 0.0)


def random_spans(lengths: Tensor, widths: Tensor, count: int, *, size: int) -> Tensor:
    """Return the union of random spans, (B, size) bool.

    Args:
        lengths: (B,) int64; spans lie in ``[0, length)``.
        widths: (B,) int64, at most ``lengths``; the width of a span is uniform in 0 to this.
        count: spans in each row.
        size: of the result's second dimension.
    """
    draws = torch.rand(2, lengths.shape[0], count, device=lengths.device)
    width = (draws[0] * (widths.unsqueeze(1) + 1)).long()
    start = (draws[1] * (lengths.unsqueeze(1) - width + 1)).long()
    index = torch.arange(size, device=lengths.device)
    inside = (index >= start.unsqueeze(2)) & (index < (start + width).unsqueeze(2))
    return inside.any(dim=1)
