"""Where the time of a NEST training step goes, beside the recipe's own forms.

    python -m benchmarks.nest_step --out nest_step.json

Two steps run in turn in one process on the same audio, masks and encoder:

* ``sori``: the step of ``experiments/ssl_nest.py``;
* ``dense``: the forms that the recipe was published with: the search writes the difference of
  every frame and every code in float64, and the loss takes the logarithm of the softmax of every
  frame, of which it then selects the masked ones.

The table of phases is that of whole steps: features of clean and noisy speech, targets, masks, the
encoder, the loss (its gradient included where it is computed in the forward pass), the rest of the
backward pass, the optimiser.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import compare, environment, print_table, show, write
from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.optimizers.adamw import AdamW
from components.quantizers.random_projection import RandomProjectionQuantizer
from components.tasks.masked_prediction import MaskedPredictionTask
from core.contracts import RunContext
from core.train.allocator import keep_freed_memory

RATE = 16000
PHASES = ("features", "targets", "masks", "encoder", "loss", "backward", "optimiser")


class Clock:
    """Seconds of each phase of each step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time what is done inside."""
        began = self._now()
        yield
        self.seconds[phase].append(self._now() - began)

    def medians(self, rounds: int) -> dict[str, float]:
        """Return the median of each phase over the last rounds."""
        return {phase: statistics.median(self.seconds[phase][-rounds:]) for phase in PHASES}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Step:
    """A training step over one batch."""

    def __init__(self, options: argparse.Namespace, *, dense: bool) -> None:
        torch.manual_seed(0)
        self.device = torch.device(options.device)
        self.autocast = options.precision == "bf16"
        self.dense = dense
        samples = int(options.seconds * RATE)
        self.lengths = torch.full((options.batch,), samples, device=self.device)
        self.clean = 0.1 * torch.randn(options.batch, samples, device=self.device)
        self.noisy = self.clean + 0.02 * torch.randn_like(self.clean)
        self.task = _task(options).to(self.device).train()
        self.optimizer = AdamW(lr=1e-4, decay="all")(self.task)
        self.clock = Clock(self.device)

    def __call__(self) -> None:
        """Take the step."""
        task, clock = self.task, self.clock
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)
        with torch.no_grad(), clock("features"):
            clean, _ = task.features(self.clean, self.lengths)
            features, lengths = task.features(self.noisy, self.lengths)
        with clock("targets"):
            targets = dense_targets(task.quantizer, clean) if self.dense else task.quantizer(clean)
        with clock("masks"):
            mask = task.masking.draw(lengths, frames=features.shape[1])
            counted = task.loss.counted(mask, stack=task.quantizer.stack)
            masked = task.masking(features, mask.to(self.device))
        with clock("encoder"), autocast:
            hidden, _ = task.encoder(masked, lengths)
        with clock("loss"), autocast:
            if self.dense:
                loss = dense_loss(task.head(hidden), targets, counted.to(self.device))
            else:
                total, _ = task.loss(hidden, task.head, targets, counted)
                loss = total / counted.sum().clamp(min=1)
        with clock("backward"):
            self.optimizer.zero_grad()
            loss.backward()
        with clock("optimiser"):
            self.optimizer.step()


def dense_targets(quantizer: RandomProjectionQuantizer, features: Tensor) -> Tensor:
    """Return targets by the distances of all frames to all codes, in float64."""
    stacked = features.unflatten(1, (-1, quantizer.stack)).flatten(2)
    projected = torch.einsum("btf,cfk->btck", stacked, quantizer.projection)
    unit = torch.nn.functional.normalize(projected, dim=-1).double()
    return (unit.unsqueeze(3) - quantizer.codebooks).norm(dim=-1).argmin(-1)


def dense_loss(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over counted frames of the cross-entropy, from the softmax of all frames."""
    log_probs = logits.float().log_softmax(-1)
    picked = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return -picked[counted].mean()


def _task(options: argparse.Namespace) -> MaskedPredictionTask:
    task = MaskedPredictionTask(
        features=LogMel(),
        masking=RandomBlockMasking(),
        quantizer=RandomProjectionQuantizer(num_books=options.books),
        encoder=ConformerEncoder(
            dim=options.dim,
            layers=options.layers,
            heads=options.heads,
            kernel_size=9,
            subsampling=8,
            subsampling_method="dw_striding",
            scale_input=True,
        ),
        head=MultiSoftmaxHead(),
        loss=MaskedPredictionLoss(),
    )
    task.setup(RunContext(assets=Path()))
    return task


def measure(options: argparse.Namespace) -> dict[str, Any]:
    steps = {"sori": Step(options, dense=False), "dense": Step(options, dense=True)}
    variants: dict[str, Callable[[], object]] = dict(steps)
    timings = compare(variants, rounds=options.rounds, device=steps["sori"].device)
    title = (
        f"one step: {options.layers} layers of width {options.dim}, "
        f"{options.batch} x {options.seconds:g} s, {options.books} codebook(s)"
    )
    show(title, timings, baselines=("dense",))
    phases = {name: step.clock.medians(options.rounds) for name, step in steps.items()}
    rows = []
    for phase in PHASES:
        ours, theirs = phases["sori"][phase], phases["dense"][phase]
        share = ours / timings["sori"].median
        rows.append((phase, f"{ours:.4f}", f"{share:.1%}", f"{theirs:.4f}"))
    print_table("phases, median seconds", ("phase", "sori", "share", "dense"), rows)
    return {"timings": timings, "phases": phases}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a NEST training step by phases.")
    parser.add_argument("--out", type=Path, help="write a JSON record here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--books", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8, help="utterances")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each utterance")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = options.device == "cpu" and keep_freed_memory()
    record = {
        "environment": environment(torch.device(options.device)) | {"freed_memory_kept": kept},
        "options": {name: value for name, value in vars(options).items() if name != "out"},
        **measure(options),
    }
    if options.out is not None:
        write(options.out, record)


if __name__ == "__main__":
    main()
