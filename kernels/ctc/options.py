"""The options of the CTC ops, in the form in which they pass through an opaque op."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from kernels.ctc.engine import Terms
from kernels.errors import KernelInputError

Reduction = Literal["none", "mean", "sum", "mean_batch", "mean_volume"]

Value = bool | int | float | str | None

SCHEMA: Final = (
    "int blank, float label_smoothing, float entropy_bonus, float blank_penalty, "
    "float consistency, str reduction, bool zero_infinity, bool? validate, int? chunk_bytes, "
    "str backend"
)
"""Arguments of an op's schema that :meth:`Options.flat` fills in."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a call asks for beside its tensors; see :func:`kernels.ctc.ctc_loss`."""

    terms: Terms
    reduction: str
    zero_infinity: bool
    validate: bool | None
    chunk_bytes: int | None
    backend: str

    def flat(self) -> tuple[Value, ...]:
        """Return the values of :data:`SCHEMA`, in its order."""
        terms = self.terms
        return (
            terms.blank,
            terms.label_smoothing,
            terms.entropy_bonus,
            terms.blank_penalty,
            terms.consistency,
            self.reduction,
            self.zero_infinity,
            self.validate,
            self.chunk_bytes,
            self.backend,
        )

    @classmethod
    def from_flat(cls, values: Sequence[Value]) -> Options:
        """Undo :meth:`flat`."""
        names = [argument.split()[-1] for argument in SCHEMA.split(",")]
        named: dict[str, Any] = dict(zip(names, values, strict=True))
        terms = {field.name: named.pop(field.name) for field in fields(Terms)}
        return cls(terms=Terms(**terms), **named)

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
