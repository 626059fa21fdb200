"""Which weights of a file fit a module, and what differs where they do not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from core.errors import CheckpointError

_INDEX = re.compile(r"(.*?\.)(\d+)((?:\..*)?)")
"""The first index in a module's name: the layer."""


@dataclass(frozen=True, slots=True)
class Reshaped:
    """A tensor that both sides have, in different shapes."""

    name: str
    have: tuple[int, ...]
    """Shape in the file."""
    want: tuple[int, ...]
    """Shape in the module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchReport:
    """How the weights of a file and the state of a module compare, by name.

    Args:
        matched: in both, of the same shape.
        missing: the module has them and the file has not.
        unexpected: the file has them and the module has not.
        reshaped: in both, of different shapes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[Reshaped, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor of either side fits one of the other."""
        return not (self.missing or self.unexpected or self.reshaped)

    def lines(self, limit: int = 20) -> list[str]:
        """Say in about ``limit`` lines what was matched and what was not, by module."""
        lines = [f"{len(self.matched)} tensors matched"]
        details = [
            *_grouped("other shape ", (_reshaped_text(r) for r in self.reshaped)),
            *_grouped("not in file ", ((name, "") for name in self.missing)),
            *_grouped("not in model", ((name, "") for name in self.unexpected)),
        ]
        lines += details[:limit]
        if len(details) > limit:
            lines.append(f"and {len(details) - limit} more modules")
        return lines


def match_state(module_state: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> MatchReport:
    """Compare names and shapes of a module's state with those of loaded weights."""
    both = [name for name in module_state if name in loaded]
    shapes = [Reshaped(n, tuple(loaded[n].shape), tuple(module_state[n].shape)) for n in both]
    return MatchReport(
        matched=tuple(shape.name for shape in shapes if shape.have == shape.want),
        missing=tuple(name for name in module_state if name not in loaded),
        unexpected=tuple(name for name in loaded if name not in module_state),
        reshaped=tuple(shape for shape in shapes if shape.have != shape.want),
    )


def load_strict(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights that must fit exactly.

    Args:
        module: that takes the weights.
        weights: by name.
        source: where they come from, for the error.

    Raises:
        CheckpointError: they belong to another architecture; the message lists what differs.
    """
    report = match_state(module.state_dict(), weights)
    if not report.exact:
        raise CheckpointError(
            f"{source} holds another architecture than {type(module).__name__}:\n"
            + indented(report.lines())
            + "\nTo start from the part that fits, use --init-from instead of resuming."
        )
    module.load_state_dict(dict(weights), strict=True)


def _reshaped_text(entry: Reshaped) -> tuple[str, str]:
    return entry.name, f" {list(entry.have)} in file, {list(entry.want)} in model"


def _grouped(label: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a line for each module, its tensors after it; layers that are alike share a line."""
    modules: dict[str, list[str]] = defaultdict(list)
    for name, detail in entries:
        parent, _, leaf = name.rpartition(".")
        modules[parent].append(f"{leaf}{detail}")
    alike: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for module, leaves in modules.items():
        match = _INDEX.fullmatch(module)
        before, index, after = match.groups() if match else (module or "(top)", "", "")
        alike[before, after, ", ".join(leaves)] += [int(index)] if index else []
    for (before, after, text), indices in alike.items():
        yield f"{label}  {before}{_ranges(indices)}{after}: {text}"


def _ranges(indices: list[int]) -> str:
    """Write sorted numbers as ``0-3,5``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def tops(weights: Mapping[str, Tensor]) -> str:
    """Return the top-level modules of a state."""
    tops = sorted({name.partition(".")[0] for name in weights})
    shown = ", ".join(f"{top}.*" for top in tops[:12])
    return shown + (f" and {len(tops) - 12} more" if len(tops) > 12 else "") or "no tensors"


def indented(lines: Iterable[str]) -> str:
    """Join lines, each two spaces further in."""
    return "\n".join(f"  {line}" for line in lines)
