"""Compare a full-scale Stage 1 step with torchaudio's Conformer: forward, loss, backward.

    python -m benchmarks.stage1_step --out stage1_step.json

Three steps run in turn in one process on the same audio and targets:

* ``sori``: log-mel features, subsampling, Conformer with relative positions, and the fused head
  and CTC of Stage 1;
* ``torchaudio``: ``torchaudio.models.Conformer`` of the same size, which has no positions, with the
  same features and subsampling in front, the same head and ``F.ctc_loss``;
* ``torchaudio, bare``: the same, but fed finished frames at the reduced rate.

A second table has utterances of 4 to 10 s instead of 10 s. Peak memory is what a step holds above
what was held before it, gradients included: resident memory sampled every 2 ms on CPU, the
allocator's peak on CUDA. On CPU the allocator keeps freed memory, for all three alike, as it does
in a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from benchmarks.common import compare, environment, show, write
from components.encoders.conformer import ConformerEncoder
from components.encoders.subsampling import ConvSubsampling
from components.features.log_mel import LogMel
from components.heads.ctc import CTCHead
from components.losses.ctc import CTCLoss
from core.train.allocator import keep_freed_memory

RATE = 16000
BINS = 80


class TorchaudioEncoder(nn.Module):
    """``torchaudio.models.Conformer`` behind the subsampling of ours."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.subsample = ConvSubsampling(
            input_dim=BINS,
            output_dim=options.dim,
            channels=256,
            factor=options.subsampling,
            method=options.method,
        )
        self.conformer = torchaudio.models.Conformer(
            input_dim=options.dim,
            num_heads=8,
            ffn_dim=4 * options.dim,
            num_layers=options.layers,
            depthwise_conv_kernel_size=31,
            dropout=options.dropout,
        )

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, T', D) and (B,)."""
        x, lengths = self.subsample(features, lengths)
        hidden, lengths = self.conformer(x, lengths)
        return hidden, lengths


class Steps:
    """The steps to compare, over one batch."""

    def __init__(self, options: argparse.Namespace, seconds: list[float]) -> None:
        torch.manual_seed(0)
        self.device = torch.device(options.device)
        self.autocast = options.precision == "bf16"
        lengths = torch.tensor([int(value * RATE) for value in seconds])
        audio = 0.1 * torch.randn(len(seconds), int(lengths.max()))
        self.audio, self.lengths = audio.to(self.device), lengths.to(self.device)
        target_lengths = (15 * torch.tensor(seconds)).long()
        targets = torch.randint(1, options.vocabulary, (len(seconds), int(target_lengths.max())))
        self.targets, self.target_lengths = targets.to(self.device), target_lengths.to(self.device)
        self.features = LogMel(num_bins=BINS).to(self.device)
        self.head = CTCHead()
        self.head.setup(input_dim=options.dim, vocab_size=options.vocabulary)
        self.head.to(self.device)
        self.criterion = CTCLoss()

    def fused_loss(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return the CTC loss summed over the batch, as Stage 1 computes it."""
        output = self.criterion(hidden, self.head, lengths, self.targets, self.target_lengths)
        return output.total

    def native_loss(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return the CTC loss summed over the batch, by the framework's own operators."""
        log_probs = self.head(hidden).float().log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(
            log_probs,
            self.targets,
            lengths,
            self.target_lengths,
            reduction="sum",
            zero_infinity=True,
        )

    def whole(
        self, encoder: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[], None]:
        """Return a step from samples to gradients."""
        encoder.to(self.device)

        def step() -> None:
            encoder.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = loss_of(*encoder(*self.features(self.audio, self.lengths)))
            loss.backward()

        return step

    def bare(self, encoder: TorchaudioEncoder) -> Callable[[], None]:
        """Return a step from finished frames at the reduced rate to gradients."""
        with torch.no_grad():
            frames, lengths = encoder.subsample(*self.features(self.audio, self.lengths))

        def step() -> None:
            encoder.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = self.native_loss(*encoder.conformer(frames, lengths))
            loss.backward()

        return step


def measure(options: argparse.Namespace, seconds: list[float]) -> dict[str, Any]:
    steps = Steps(options, seconds)
    ours = ConformerEncoder(
        dim=options.dim,
        layers=options.layers,
        subsampling=options.subsampling,
        subsampling_method=options.method,
        dropout=options.dropout,
        attention_dropout=options.dropout,
    )
    ours.setup(input_dim=BINS)
    theirs = TorchaudioEncoder(options)
    variants = {
        "sori": steps.whole(ours.train(), steps.fused_loss),
        "torchaudio": steps.whole(theirs.train(), steps.native_loss),
        "torchaudio, bare": steps.bare(theirs),
    }
    timings = compare(variants, rounds=options.rounds, device=steps.device)
    padding = 1.0 - sum(seconds) / (len(seconds) * max(seconds))
    title = f"{len(seconds)} utterances, {sum(seconds):.0f} s of audio, {padding:.1%} padding"
    show(title, timings, baselines=("torchaudio", "torchaudio, bare"))
    return {
        "seconds": seconds,
        "padding_share": padding,
        "parameters": {
            "sori": sum(p.numel() for p in ours.parameters()),
            "torchaudio": sum(p.numel() for p in theirs.parameters()),
        },
        "timings": timings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compare a full-scale Stage 1 step with torchaudio's Conformer."
    )
    parser.add_argument("--out", type=Path, help="write a JSON record here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=1000)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--subsampling", type=int, default=4, choices=(4, 8))
    parser.add_argument("--method", default="dw_striding", choices=("conv2d", "dw_striding"))
    parser.add_argument("--batch", type=int, default=8, help="utterances")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = options.device == "cpu" and keep_freed_memory()
    count = options.batch
    spread = [4.0 + 6.0 * index / max(count - 1, 1) for index in range(count)]
    record = {
        "environment": environment(torch.device(options.device)) | {"freed_memory_kept": kept},
        "options": {name: value for name, value in vars(options).items() if name != "out"},
        "uniform": measure(options, [10.0] * count),
        "mixed": measure(options, spread),
    }
    if options.out is not None:
        write(options.out, record)


if __name__ == "__main__":
    main()
