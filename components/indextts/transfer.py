"""UnifiedVoice from published tensors: whatever differs is asked for by name, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from components.indextts.names import published_names
from components.models.unified_voice import UnifiedVoice
from core.checkpoint.match import MatchReport, Reshaped, indented, match_state, tops
from core.checkpoint.start import StartReport, Taken
from core.errors import CheckpointError, suggest

VOCABULARY = ("text_embedding.weight", "text_head.weight", "text_head.bias")
"""Tensors with a row for each text token."""
COMPUTED = ".pos_enc.pe"
"""End of the names of buffers that follow from sizes."""
MOST_HINTS = 8
"""Modules that a hint names; with more, the file is simply of another model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What may differ between a file and a model.

    Args:
        fresh: modules or tensors of the model that keep the values they were drawn with.
        ignore: modules or tensors of the file that are passed over.
        resize_vocabulary: whether text tokens that both vocabularies have, by id, are taken where
            the vocabularies have different sizes.
    """

    fresh: Sequence[str] = ()
    ignore: Sequence[str] = ()
    resize_vocabulary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What becomes of each tensor: of the model's first, of the file's last."""

    taken: dict[str, Tensor]
    resized: dict[str, Reshaped]
    fresh: dict[str, str]
    aside: dict[str, str]
    refused: MatchReport
    problems: list[str] = field(default_factory=list)


def as_model(module: nn.Module) -> UnifiedVoice:
    """Return the module if it is a UnifiedVoice; else its ``model``, if that is one.

    Raises:
        CheckpointError: neither is.
    """
    found = module if isinstance(module, UnifiedVoice) else getattr(module, "model", None)
    if not isinstance(found, UnifiedVoice):
        raise CheckpointError(
            f"{type(module).__name__} has no form in IndexTTS2; expected a UnifiedVoice or a task "
            "whose model is one"
        )
    return found


def import_into(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str, choices: Choices | None = None
) -> StartReport:
    """Load published tensors into a model.

    Args:
        module: a UnifiedVoice whose parameters exist, or a task whose ``model`` is one.
        state: tensors by their names in the file.
        source: where they come from, for messages.
        choices: what may differ.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape, and ``choices`` do not
            cover it, or they name what is not there. Nothing was loaded then.
    """
    model, chosen = as_model(module), choices if choices is not None else Choices()
    named = published_names(state, source=source)
    own = model.state_dict()
    plan = _planned(own, named.state, chosen)
    if not plan.taken:
        raise CheckpointError(
            f"nothing in {source} fits this model: the file has {tops(named.state)}, the model has "
            f"{tops(own)}"
        )
    if plan.problems or not plan.refused.exact:
        raise CheckpointError(_refusal(plan, own, named.state, source))
    _copy(own, plan)
    notes = [*named.notes, *_resizes(plan), *_conversions(own, plan.taken)]
    aside = {**named.aside, **plan.aside}
    notes += [f"not used, {count}: {reason}" for reason, count in Counter(aside.values()).items()]
    fresh = {**plan.fresh, **_outside(module, model)}
    return StartReport(
        taken=tuple(_by_part(plan.taken)), fresh=fresh, unused=tuple(aside), notes=tuple(notes)
    )


def _planned(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], choices: Choices) -> _Plan:
    problems = _unknown(choices.fresh, own, option="fresh", place="model")
    problems += _unknown(choices.ignore, theirs, option="ignore", place="file")
    aside = {name: "by ignore=" for name in theirs if _within(name, choices.ignore)}
    kept = {name for name in own if _within(name, choices.fresh)}
    aside |= {name: "by fresh=" for name in theirs if name in kept}
    rest = {name: tensor for name, tensor in theirs.items() if name not in aside}
    report = match_state({n: t for n, t in own.items() if n not in kept}, rest)
    computed = [name for name in report.missing if name.endswith(COMPUTED)]
    resized = {
        entry.name: entry
        for entry in report.reshaped
        if choices.resize_vocabulary
        and entry.name in VOCABULARY
        and entry.have[1:] == entry.want[1:]
    }
    cut = {name: rest[name][: entry.want[0]] for name, entry in resized.items()}
    return _Plan(
        taken={name: rest[name] for name in report.matched} | cut,
        resized=resized,
        fresh={**_fresh(own, theirs, choices.fresh), **dict.fromkeys(computed, "computed")},
        aside=aside,
        refused=replace(
            report,
            missing=tuple(name for name in report.missing if name not in computed),
            reshaped=tuple(entry for entry in report.reshaped if entry.name not in resized),
        ),
        problems=problems,
    )


def _copy(own: Mapping[str, Tensor], plan: _Plan) -> None:
    with torch.no_grad():
        for name, tensor in plan.taken.items():
            own[name][: len(tensor)].copy_(tensor)


def _fresh(
    own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], chosen: Sequence[str]
) -> dict[str, str]:
    """Say of each module that stays fresh by choice how the file's compares with it."""
    found: dict[str, str] = {}
    for prefix in chosen:
        part = {name: tensor for name, tensor in own.items() if _within(name, (prefix,))}
        report = match_state(part, theirs)
        lines = [
            f"{entry.name} is {list(entry.have)} in the file, {list(entry.want)} here"
            for entry in report.reshaped
        ]
        if report.missing:
            lines.append(f"{len(report.missing)} tensors are not in the file")
        found[prefix] = "; ".join([f"{len(part)} tensors, by fresh=", *lines])
    return found


def _refusal(
    plan: _Plan, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], source: str
) -> str:
    lines = [*plan.problems]
    if not plan.refused.exact:
        lines += plan.refused.lines(limit=40)
    hints = []
    names = [entry.name for entry in plan.refused.reshaped]
    if any(name in VOCABULARY for name in names):
        hints.append(
            "resize_vocabulary=true takes the tokens that both vocabularies have, by id: for a "
            "tokenizer that extends the file's"
        )
    kept = _modules([n for n in (*names, *plan.refused.missing) if n not in VOCABULARY], own)
    if 0 < len(kept) <= MOST_HINTS:
        hints.append(f"fresh={','.join(kept)} leaves these as they were drawn")
    extra = _modules(plan.refused.unexpected, theirs)
    if 0 < len(extra) <= MOST_HINTS:
        hints.append(f"ignore={','.join(extra)} passes over what the model has no place for")
    if hints:
        lines.append("Where that is meant, add to the file's name, after '?' and between '&':")
        lines += [f"  {hint}" for hint in hints]
    return f"{source} does not fit this model:\n" + indented(lines)


def _unknown(
    chosen: Sequence[str], state: Mapping[str, Tensor], *, option: str, place: str
) -> list[str]:
    """Say which choices name nothing."""
    known = {name for full in state for name in _prefixes(full)}
    return [
        f"{option}={name}: not in the {place}; " + suggest(name, known, noun="names")
        for name in chosen
        if name not in known
    ]


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _within(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _modules(names: Sequence[str], everything: Iterable[str]) -> list[str]:
    """Return the largest modules that consist of ``names`` alone; an input layer always whole."""
    others = {name for name in everything if not name.endswith(COMPUTED)} - set(names)
    mixed = {prefix for name in others for prefix in _prefixes(name)}
    found: dict[str, None] = {}
    for name in names:
        whole = next((prefix for prefix in _prefixes(name) if prefix not in mixed), name)
        before, embed, _ = whole.partition(".embed.")
        found[f"{before}.embed" if embed else whole] = None
    return list(found)


def _by_part(taken: Mapping[str, Tensor]) -> list[Taken]:
    tensors: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for name, tensor in taken.items():
        part = name.partition(".")[0]
        tensors[part] += 1
        values[part] += tensor.numel()
    return [Taken(name=part, tensors=n, values=values[part]) for part, n in tensors.items()]


def _resizes(plan: _Plan) -> list[str]:
    lines = []
    for name, entry in plan.resized.items():
        have, want = entry.have[0], entry.want[0]
        rest = f"{want - have} fresh" if want > have else f"{have - want} of the file's left out"
        lines.append(f"resized {name}: {min(have, want)} rows taken by id, {rest}")
    return lines


def _conversions(own: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> list[str]:
    """Say which tensors change their type when they are loaded."""
    changes = Counter(
        f"{tensor.dtype} to {own[name].dtype}".replace("torch.", "")
        for name, tensor in taken.items()
        if tensor.dtype != own[name].dtype
    )
    return [f"{count} tensors converted from {change}" for change, count in changes.items()]


def _outside(module: nn.Module, model: UnifiedVoice) -> dict[str, str]:
    """Return the parts of a task that a published checkpoint never has."""
    return {
        name: "no part of published checkpoints"
        for name, child in module.named_children()
        if module is not model and child is not model and any(True for _ in child.parameters())
    }
