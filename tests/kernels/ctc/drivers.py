"""Calls of the drivers as a device sees them that the host does not wait for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.ctc.arguments import Labels
from kernels.ctc.batch import Batch, prepare
from kernels.ctc.engine import Terms
from kernels.ctc.options import Options
from kernels.ctc.stepwise import stepwise_lattice
from kernels.ctc.torch import TorchEngine
from tests.kernels.ctc.oracles import Example


class Elsewhere(Tensor):
    """A tensor on CPU that says it is on another device; what is computed from it is not."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("meta")


class StepwiseEngine(TorchEngine):
    """The torch engine with the lattice that it has on other devices than CPU."""

    def lattice(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        return stepwise_lattice(*args, **options)


def make_options(**changes: Any) -> Options:
    """Return options with some changed; those of :class:`Terms` by their names."""
    terms = {name: changes.pop(name) for name in Terms.__dataclass_fields__ if name in changes}
    plain: dict[str, Any] = {
        "reduction": "sum",
        "zero_infinity": False,
        "validate": None,
        "chunk_bytes": None,
        "backend": "torch",
    }
    return Options(terms=Terms(**terms), **{**plain, **changes})


def make_batch(example: Example, options: Options, *, known: bool) -> Batch:
    """Prepare an example's labels; unless ``known``, the host cannot read the lengths."""
    targets, input_lengths, target_lengths = example.labels
    if not known:
        input_lengths = input_lengths.as_subclass(Elsewhere)
    shape = (example.hidden.shape[0], example.hidden.shape[1])
    labels = Labels(targets, input_lengths, target_lengths)
    return prepare(shape, example.weight.shape[0], labels, options)
