"""The protocols of exchangeable parts: encoders, heads, tokenizers, schedules.

Shapes use B for utterances in a batch, S for samples, T for frames, F for feature bins, D for model
width, U for target tokens and V for vocabulary entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from core.contracts.records import Hypothesis


class Features(Protocol):
    """Waveforms to frames, on the device the model runs on (kind ``features``)."""

    sample_rate: int
    num_bins: int
    seconds_per_frame: float

    def __call__(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, S) samples and (B,) lengths to (B, T, F) features and (B,) frame counts."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) sample counts to (B,) frame counts."""


class Augmentation(Protocol):
    """Distorts features during training; the identity in evaluation (kind ``augmentation``)."""

    def __call__(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) to (B, T, F)."""


class Encoder(Protocol):
    """Frames to hidden states (kind ``encoder``)."""

    output_dim: int
    subsampling: int
    """Input frames for each output frame."""

    def setup(self, *, input_dim: int) -> None:
        """Create what depends on the number of feature bins; called once, before weights load."""

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, T', D) and (B,); frames past a length are zero."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) input frame counts to (B,) output frame counts."""


class Head(Protocol):
    """Hidden states to scores over a vocabulary (kind ``head``).

    Its last layer is linear, so that a loss may fuse it: the logits are
    ``F.linear(head.inputs(hidden), head.weight, head.bias)``.

    Args:
        weight: (V, D') of the last layer.
        bias: (V,) of the last layer, or None.
    """

    weight: Tensor
    bias: Tensor | None

    def setup(self, *, input_dim: int, vocab_size: int) -> None:
        """Create the projection; called once, before weights are loaded."""

    def inputs(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) hidden states to (B, T, D') inputs of the last layer."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) hidden states to (B, T, V) logits."""


class Tokenizer(Protocol):
    """Text to token ids and back (kind ``tokenizer``). Id 0 is the CTC blank and never text."""

    @property
    def fitted(self) -> bool:
        """Whether the vocabulary is known."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank included. Raises if the tokenizer is not fitted."""

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from transcripts."""

    def encode(self, text: str) -> list[int]:
        """Map text to ids. Raises DataError naming what cannot be encoded."""

    def decode(self, ids: Sequence[int]) -> str:
        """Map ids to text."""

    def token(self, index: int) -> str:
        """Return the printable form of one id."""

    def save(self, directory: Path) -> None:
        """Write the vocabulary as data files."""

    def load(self, directory: Path) -> None:
        """Read what :meth:`save` wrote. Executes nothing."""


class TextForm(Protocol):
    """Transcripts to the form that is trained on and scored (kind ``text``)."""

    @property
    def fingerprint(self) -> str:
        """Name, version and options, to be kept beside every score."""

    def __call__(self, text: str) -> str:
        """Return the normal form of a transcript; it may be empty."""

    def fault(self, text: str) -> str | None:
        """Say why a transcript cannot be normalised with certainty; None if it can."""


class Decoder(Protocol):
    """CTC logits to hypotheses (kind ``decoder``)."""

    def __call__(self, logits: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Map (B, T, V) logits and (B,) frame counts to one best hypothesis an utterance."""


class Scheduler(Protocol):
    """Learning-rate factor as a pure function of the step (kind ``scheduler``)."""

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the multiplier of every group's base rate for 1-based optimiser step ``step``.

        Raises ConfigError if the shape needs ``total_steps`` and it is not known.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How long a run is, as its configuration and data say when it starts.

    Args:
        total_steps: optimiser steps; None where there is no end.
        rows_per_step: rows of the data in one step over all ranks; None where steps differ.
    """

    total_steps: int | None
    rows_per_step: int | None = None


@runtime_checkable
class PlannedScheduler(Scheduler, Protocol):
    """A schedule that is laid out when a run starts and kept with it (kind ``scheduler``)."""

    @property
    def total_steps(self) -> int | None:
        """Last step of the planned schedule."""

    @property
    def binding(self) -> bool:
        """Whether training ends with the schedule although its own budget says otherwise."""

    def plan(self, extent: Extent) -> None:
        """Lay the schedule out for a run that starts."""

    def state_dict(self) -> dict[str, Any]:
        """Return the plan: JSON-serialisable, and saved with every checkpoint."""

    def resume(self, state: Mapping[str, Any], *, step: int) -> list[str]:
        """Take a saved plan over from a run that is at ``step``; called after :meth:`plan`.

        Returns:
            Lines on what differs from the configuration.

        Raises:
            ConfigError: the run cannot go on with both.
        """


class OptimizerFactory(Protocol):
    """Builds the optimiser once the modules have their final parameters (kind ``optimizer``)."""

    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return an optimiser over the trainable parameters of ``module``."""
