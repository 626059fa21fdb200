"""Log-mel features, computed on the device that the model runs on."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.features.mel import mel_filters
from core.errors import ConfigError
from core.registry import register

LOG_GUARD = 2.0**-24
"""Added before the logarithm: the smallest power that a silent frame can have."""
STD_GUARD = 1e-5
"""Added to standard deviations, so that a constant bin normalises to zero."""

Normalization = Literal["per_utterance", "per_feature", "none"]
Edges = Literal["zeros", "reflect"]


@register("features", "log_mel")
class LogMel(nn.Module):
    """Natural logarithm of mel-scale power, normalised over the frames of each utterance.

    Frame t is centred on sample ``t * hop``; samples before the start and after the end of an
    utterance are zero, whatever else is in the batch, so a padded batch gives what each utterance
    gives alone. Slaney's mel scale with filters of equal area, a symmetric Hann window. Always
    float32, without gradient.

    Args:
        sample_rate: of the audio, in Hz.
        num_bins: mel filters F.
        window_seconds: length of the analysis window.
        hop_seconds: time between frames.
        n_fft: points of the Fourier transform; None for the smallest power of two that holds the
            window.
        min_frequency: lower edge of the first filter, in Hz.
        max_frequency: upper edge of the last filter, in Hz; None for half the sample rate.
        pre_emphasis: coefficient a of ``y[n] = x[n] - a x[n-1]``; 0 for none.
        dither: standard deviation of the Gaussian noise added to samples in training.
        normalization: zero mean and unit variance for each bin of an utterance (``per_feature``),
            for all its bins together (``per_utterance``), or none. Only real frames count.
        pad_to: the frame axis is padded with zeros to a multiple of this. As in NeMo, what is
            rounded up are the ``1 + S // hop`` frames of the transform; 0 pads to just those, and 1
            leaves S // hop frames, all of which are real in the longest utterance.
        edges: what the first and last windows see outside an utterance. ``reflect`` mirrors its
            samples at both ends and counts ``1 + S // hop`` frames, which is NeMo's behaviour up to
            version 2.4 for an utterance alone, and what the released NEST weights were trained on.
            NeMo reflected at the end of the longest utterance of a batch, not at that of each.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        num_bins: int = 80,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.01,
        n_fft: int | None = None,
        min_frequency: float = 0.0,
        max_frequency: float | None = None,
        pre_emphasis: float = 0.97,
        dither: float = 0.0,
        normalization: Literal["per_utterance", "per_feature", "none"] = "per_feature",
        pad_to: int = 1,
        edges: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__()
        window_length = round(window_seconds * sample_rate)
        self.sample_rate = sample_rate
        self.num_bins = num_bins
        self.hop = round(hop_seconds * sample_rate)
        self.n_fft = n_fft if n_fft is not None else 1 << (window_length - 1).bit_length()
        if self.n_fft < window_length:
            raise ConfigError(
                f"log_mel: n_fft must hold the window of {window_length} samples, found {n_fft}"
            )
        if pad_to < 0:
            raise ConfigError(f"log_mel: pad_to must not be negative, found {pad_to}")
        self.min_frequency = min_frequency
        self.max_frequency = max_frequency
        self.seconds_per_frame = self.hop / sample_rate
        self.pre_emphasis = pre_emphasis
        self.dither = dither
        self.normalization: Normalization = normalization
        self.pad_to = pad_to
        self.edges: Edges = edges
        window = torch.hann_window(window_length, periodic=False)
        self.register_buffer("window", window, persistent=False)
        filters = mel_filters(
            num_bins=num_bins,
            n_fft=self.n_fft,
            sample_rate=sample_rate,
            min_frequency=min_frequency,
            max_frequency=max_frequency if max_frequency is not None else sample_rate / 2,
        )
        self.register_buffer("filters", filters, persistent=False)  # (n_fft // 2 + 1, F)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) sample counts to (B,) frame counts.

        Whole hops; one more with ``edges="reflect"`` unless there is no sample at all.
        """
        hops = lengths // self.hop
        return hops if self.edges == "zeros" else (hops + 1) * (lengths > 0)

    @torch.no_grad()
    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            audio: (B, S) samples, S at least 1; what lies past a length is not looked at.
            lengths: (B,) int64 sample counts.

        Returns:
            (B, T, F) float32 features, zero past each length, and (B,) int64 frame counts, 0 for an
            utterance shorter than one hop (with ``edges="reflect"`` for one without samples). T is
            max(S // hop, 1), or what ``pad_to`` and ``edges`` make of it.
        """
        with torch.autocast(audio.device.type, enabled=False):
            frames = self.output_lengths(lengths)
            mel = self._log_mel(self._waveform(audio.float(), lengths), lengths)
            valid = torch.arange(mel.shape[1], device=mel.device) < frames.unsqueeze(1)
            mel = _normalise(mel, valid.unsqueeze(-1), self.normalization)
            mel = mel.masked_fill(~valid.unsqueeze(-1), 0.0)
            return F.pad(mel, (0, 0, 0, self._padding(mel.shape[1], audio.shape[1]))), frames

    def _waveform(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Dither, emphasise and zero what lies past each length."""
        if self.training and self.dither > 0:
            audio = audio + self.dither * torch.randn_like(audio)
        if self.pre_emphasis > 0:
            tail = audio[:, 1:] - self.pre_emphasis * audio[:, :-1]
            audio = torch.cat([audio[:, :1], tail], dim=1)
        beyond = torch.arange(audio.shape[1], device=audio.device) >= lengths.unsqueeze(1)
        return audio.masked_fill(beyond, 0.0)

    def _log_mel(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, S) and (B,) to (B, T, F), T being the frames of an utterance of S samples."""
        reflect = self.edges == "reflect"
        spectrum = torch.stft(
            reflected(audio, lengths, self.n_fft) if reflect else audio,
            n_fft=self.n_fft,
            hop_length=self.hop,
            win_length=self.window.numel(),
            window=self.window,
            center=not reflect,
            pad_mode="constant",
            return_complex=True,
        )  # (B, n_fft // 2 + 1, 1 + S // hop)
        frames = audio.shape[1] // self.hop
        spectrum = spectrum[..., : frames + 1 if reflect else max(frames, 1)].transpose(1, 2)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power @ self.filters + LOG_GUARD)

    def _padding(self, frames: int, samples: int) -> int:
        """Return how many frames ``pad_to`` adds to those of an utterance of ``samples``."""
        if self.pad_to == 1:
            return 0
        transform = 1 + samples // self.hop
        return transform - frames + (-transform % self.pad_to if self.pad_to else 0)


def reflected(audio: Tensor, lengths: Tensor, extent: int) -> Tensor:
    """Mirror each utterance at its own ends, so that frame t is centred on sample ``t * hop``.

    One shorter than half of ``extent`` goes back and forth (numpy's ``reflect``), where torch's
    padding gives up.

    Args:
        audio: (B, S).
        lengths: (B,) sample counts.
        extent: samples to add, half of them in front.

    Returns:
        (B, S + extent); what is further than ``extent`` past a length is arbitrary.
    """
    start = -(extent // 2)
    place = torch.arange(start, start + audio.shape[1] + extent, device=audio.device)
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    folded = place % (2 * last).clamp(min=1)
    return audio.gather(1, torch.minimum(folded, 2 * last - folded))


def _normalise(mel: Tensor, valid: Tensor, normalization: Normalization) -> Tensor:
    """Normalise (B, T, F) over real frames; ``valid`` is (B, T, 1) bool.

    Means are taken of differences from the first frame: those of a silent clip are exactly 0, where
    the mean of equal numbers is off by its rounding, which the deviation would scale up.
    """
    if normalization == "none":
        return mel
    axes = (1,) if normalization == "per_feature" else (1, 2)
    values_per_frame = 1 if normalization == "per_feature" else mel.shape[2]
    count = valid.sum(dim=(1, 2), keepdim=True) * values_per_frame
    mel = mel - (mel[:, :1] if normalization == "per_feature" else mel[:, :1, :1])
    mean = (mel * valid).sum(dim=axes, keepdim=True) / count.clamp(min=1)
    centred = (mel - mean) * valid
    variance = centred.square().sum(dim=axes, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + STD_GUARD)
