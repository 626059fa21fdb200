"""The options of the CTC ops, in the form in which they pass through an opaque op."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from kernels.ctc.engine import Terms
from kernels.errors import KernelInputError

Reduction = Literal["none", "mean", "sum", "mean_batch", "mean_volume"]

SCHEMA: Final = "float[] numbers, str words"
"""Arguments of an op's schema that :meth:`Options.flat` fills in; each costs time in every call."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a call asks for beside its tensors; see :func:`kernels.ctc.ctc_loss`."""

    terms: Terms
    reduction: str
    zero_infinity: bool
    validate: bool | None
    chunk_bytes: int | None
    backend: str

    def flat(self) -> tuple[list[float], str]:
        """Return the values of :data:`SCHEMA`: what may vary between calls, and what does not."""
        terms = self.terms
        numbers = [
            terms.blank,
            terms.label_smoothing,
            terms.entropy_bonus,
            terms.blank_penalty,
            terms.consistency,
            self.chunk_bytes or 0,
        ]
        words = (self.reduction, str(self.zero_infinity), str(self.validate), self.backend)
        return [float(number) for number in numbers], ",".join(words)

    @classmethod
    def from_flat(cls, numbers: Sequence[float], words: str) -> Options:
        """Undo :meth:`flat`."""
        blank, label_smoothing, entropy_bonus, blank_penalty, consistency, chunk_bytes = numbers
        reduction, zero_infinity, validate, backend = words.split(",")
        return cls(
            terms=Terms(
                blank=int(blank),
                label_smoothing=label_smoothing,
                entropy_bonus=entropy_bonus,
                blank_penalty=blank_penalty,
                consistency=consistency,
            ),
            reduction=reduction,
            zero_infinity=zero_infinity == "True",
            validate=None if validate == "None" else validate == "True",
            chunk_bytes=int(chunk_bytes) or None,
            backend=backend,
        )

    def check(self, *, classes: int, utterances: int) -> None:
        """Refuse values that mean nothing.

        Raises:
            KernelInputError: names the option, its value and what was expected.
        """
        terms = self.terms
        if self.reduction not in get_args(Reduction):
            expected = ", ".join(get_args(Reduction))
            raise KernelInputError(f"reduction {self.reduction!r}: expected one of {expected}")
        if not 0 <= terms.blank < classes:
            raise KernelInputError(f"blank {terms.blank}: expected a class in [0, {classes})")
        if not 0.0 <= terms.label_smoothing < 1.0:
            raise KernelInputError(
                f"label_smoothing {terms.label_smoothing}: expected a value in [0, 1)"
            )
        for name, value in (
            ("entropy_bonus", terms.entropy_bonus),
            ("consistency", terms.consistency),
        ):
            if not 0.0 <= value < math.inf:
                raise KernelInputError(f"{name} {value}: expected a finite value of at least 0")
        if not math.isfinite(terms.blank_penalty):
            raise KernelInputError(f"blank_penalty {terms.blank_penalty}: expected a finite value")
        if terms.consistency and utterances % 2:
            raise KernelInputError(
                f"consistency compares utterances b and b + B of a batch of 2B; found {utterances}"
            )
        if self.chunk_bytes is not None and self.chunk_bytes < 1:
            raise KernelInputError(f"chunk_bytes {self.chunk_bytes}: expected at least 1")
