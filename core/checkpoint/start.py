"""Fresh modules that start from the weights of others: module by module, never half of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from core.checkpoint.match import MatchReport, indented, match_state, tops
from core.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of how a file's modules were configured, beside this model's.

    Args:
        differences: by module, lines on the settings in which it differs.
        replaced: by module, which component the file's was and which this one is, where another
            one stands in its place.
        heads: modules that are sized by the vocabulary.
        vocabulary: entries of this model's vocabulary; None if it has none.
        same_vocabulary: whether both vocabularies are equal, entry by entry.
        problems: lines on what forbids to take anything, whatever the shapes.
    """

    differences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    heads: frozenset[str] = frozenset()
    vocabulary: int | None = None
    same_vocabulary: bool = True
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A module whose whole state came from the file: how many tensors, of how many values."""

    name: str
    tensors: int
    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReport:
    """What a model started from.

    Args:
        taken: modules that were taken whole.
        fresh: modules that keep the values they were drawn with, and why.
        unused: names in the file that were not used.
        notes: what else a reader should know.
    """

    taken: tuple[Taken, ...]
    fresh: Mapping[str, str]
    unused: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def with_notes(self, notes: Iterable[str]) -> StartReport:
        """Return the report with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def lines(self) -> list[str]:
        """Say what was taken with counts, what stays fresh, and what was not used."""
        tensors = sum(part.tensors for part in self.taken)
        values = sum(part.values for part in self.taken)
        lines = [f"{tensors} tensors matched, {values:,} values"]
        lines += [
            f"taken     {part.name}: {part.tensors} tensors, {part.values:,} values"
            for part in self.taken
        ]
        lines += [f"fresh     {name}: {reason}" for name, reason in self.fresh.items()]
        counts = Counter(_child(name) or name for name in self.unused)
        lines += [
            f"not used  {name}: {count} tensor{'s' if count > 1 else ''} in the file"
            for name, count in counts.items()
        ]
        return lines + [f"note      {note}" for note in self.notes]


def start_from(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    origin: Origin | None = None,
) -> StartReport:
    """Load each child of ``module`` whole, or leave it as it is and say so.

    A child is left alone if the file has nothing under its name, if another component stands in
    its place, if it is a head and the vocabulary is another one, or if the module names it among
    its ``fresh_children``. A child of which only a part
    fits is an architecture that was meant to be the same and is not: that is refused, before
    anything is loaded.

    Args:
        module: that takes the weights.
        weights: by name.
        source: where they come from, for messages.
        origin: what is known of their configuration.

    Raises:
        CheckpointError: a child fits only in part, no child fits, or ``origin`` has problems.
    """
    known = origin if origin is not None else Origin()
    own = module.state_dict()
    own_run: Mapping[str, str] = getattr(module, "fresh_children", {})
    parts = _by_child(own)
    theirs = _by_child(weights)
    taken: list[Taken] = []
    fresh: dict[str, str] = {}
    refused: list[str] = []
    for name, state in parts.items():
        report = match_state(state, theirs.get(name, {}))
        reason: str | None = "not in the file"
        if name in theirs:
            reason = own_run.get(name) or _reason_to_stay_fresh(name, report, known)
        if reason is not None:
            fresh[name] = reason
        elif report.exact:
            values = sum(tensor.numel() for tensor in state.values())
            taken.append(Taken(name=name or "(top)", tensors=len(state), values=values))
        elif not _parameters(module, name):
            fresh[name] = "of another shape in the file; it has no parameters"
        else:
            refused += _refusal(name, report, known)
    refused += known.problems
    if refused:
        raise CheckpointError(
            f"{source} does not fit this model; a module is taken whole or not at all:\n"
            + indented(refused)
        )
    if not taken:
        raise CheckpointError(_nothing_fits(weights, own, source, fresh))
    chosen = {n: v for n, v in weights.items() if n in own and _child(n) not in fresh}
    module.load_state_dict(chosen, strict=False)
    unused = tuple(name for name in weights if name not in chosen)
    return StartReport(taken=tuple(taken), fresh=fresh, unused=unused)


def _reason_to_stay_fresh(name: str, report: MatchReport, origin: Origin) -> str | None:
    """Return why a child is left alone; None if it is to be taken or refused."""
    if name in origin.replaced:
        return origin.replaced[name]
    if name not in origin.heads:
        return None
    if report.exact:
        return None if origin.same_vocabulary else "another vocabulary of the same size"
    sizes = _only_sizes_that_differ(report)
    if sizes is None or sizes[1] != origin.vocabulary:
        return None
    return f"another vocabulary: {sizes[0]} entries in the file, {sizes[1]} here"


def _only_sizes_that_differ(report: MatchReport) -> tuple[int, int] | None:
    """Return the sizes, in file and model, if all that differs is one size, the same everywhere."""
    if report.missing or report.unexpected:
        return None
    found: set[tuple[int, int]] = set()
    for entry in report.reshaped:
        if len(entry.have) != len(entry.want):
            return None
        found |= {(a, b) for a, b in zip(entry.have, entry.want, strict=True) if a != b}
    return found.pop() if len(found) == 1 else None


def _refusal(name: str, report: MatchReport, origin: Origin) -> list[str]:
    """Say of a child what the file has, what the model wants, and which settings differ."""
    lines = [f"{name}: {len(report.matched)} tensors of it fit"]
    lines += [f"  {line}" for line in report.lines()[1:]]
    differences = origin.differences.get(name, ())
    if differences:
        lines.append("  settings, the file's -> this model's:")
        lines += [f"    {line}" for line in differences]
    return lines


def _nothing_fits(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    source: str,
    fresh: Mapping[str, str],
) -> str:
    reasons = [f"{name}: {reason}" for name, reason in fresh.items()]
    return (
        f"nothing in {source} fits this model: the file has {tops(weights)}, the "
        f"model has {tops(own)}\n" + indented(reasons)
    )


def _by_child(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group a state by the child that holds it; what the module itself holds is under ''."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        found.setdefault(_child(name), {})[name] = tensor
    return found


def _child(name: str) -> str:
    first, dot, _ = name.partition(".")
    return first if dot else ""


def _parameters(module: nn.Module, name: str) -> Sequence[nn.Parameter]:
    child = module.get_submodule(name) if name else module
    return list(child.parameters())
