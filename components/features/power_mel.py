"""Log-mel of power on the HTK scale, as the emotion branch of Stage 2 reads it from files."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.features.log_mel import reflected
from components.features.mel import triangles
from core.registry import register

FLOOR = 1e-5
"""Smallest mel power before the logarithm."""


@register("features", "power_mel")
class PowerMel(nn.Module):
    """Natural logarithm of mel-scale power, floored: ``log(max(x, 1e-5))``; no normalisation.

    Frame t is centred on sample ``t * hop`` and utterances are mirrored at both ends, so there are
    ``1 + S // hop`` frames. Periodic Hann window; triangular filters of height 1 on the HTK scale,
    2595 log10(1 + f / 700). These are the defaults of torchaudio's ``MelSpectrogram``. It is not
    the mel of the BigVGAN vocoder, which is of magnitudes on Slaney's scale. Always float32,
    without gradient.

    Args:
        sample_rate: of the audio, in Hz.
        num_bins: mel filters F.
        n_fft: points of the Fourier transform and of the window.
        hop: samples between frames.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 22050,
        num_bins: int = 80,
        n_fft: int = 1024,
        hop: int = 256,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.num_bins = num_bins
        self.n_fft = n_fft
        self.hop = hop
        self.seconds_per_frame = hop / sample_rate
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        filters = htk_filters(num_bins=num_bins, n_fft=n_fft, sample_rate=sample_rate)
        self.register_buffer("filters", filters, persistent=False)  # (n_fft // 2 + 1, F)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) sample counts to (B,) frame counts: ``1 + S // hop``, 0 without samples."""
        return (lengths // self.hop + 1) * (lengths > 0)

    @torch.no_grad()
    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            audio: (B, S) samples, S at least 1; what lies past a length is not looked at.
            lengths: (B,) int64 sample counts.

        Returns:
            (B, 1 + S // hop, F) float32 features, zero past each length, and (B,) int64 frames.
        """
        with torch.autocast(audio.device.type, enabled=False):
            frames = self.output_lengths(lengths)
            spectrum = torch.stft(
                reflected(audio.float(), lengths, self.n_fft),
                n_fft=self.n_fft,
                hop_length=self.hop,
                window=self.window,
                center=False,
                return_complex=True,
            ).transpose(1, 2)[:, : 1 + audio.shape[1] // self.hop]
            power = spectrum.real.square() + spectrum.imag.square()
            mel = (power @ self.filters).clamp(min=FLOOR).log()
            valid = torch.arange(mel.shape[1], device=mel.device) < frames.unsqueeze(1)
            return mel.masked_fill(~valid.unsqueeze(-1), 0.0), frames


def htk_filters(*, num_bins: int, n_fft: int, sample_rate: int) -> Tensor:
    """Return triangles of height 1 from 0 Hz to half the rate, (n_fft // 2 + 1, F) float32.

    Edges and centres are equally spaced in mel, and computed in float64.

    Raises:
        ConfigError: a filter lies between two points of the transform and would hear nothing.
    """
    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    mels = torch.linspace(0.0, top, num_bins + 2, dtype=torch.float64)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    return triangles(corners, n_fft=n_fft, sample_rate=sample_rate, name="power_mel").float()
