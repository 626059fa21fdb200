"""Modules from NeMo's tensors, and NeMo's tensors from modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from components.nemo.architecture import architecture
from components.nemo.compare import Differing, differing, input_norm_differing, model_section
from components.nemo.convert import Converted, from_nemo, nemo_names, to_nemo
from components.nemo.settings import settings_of
from components.nemo.state import FEATURES, as_task, state_of
from core.checkpoint.start import Origin, StartReport, start_from
from core.errors import CheckpointError

_ACCEPT = "to start from it all the same, add ?other_settings=true to the file's name"
TOLERANCE = 1e-4
"""By how much a window or a filter bank may differ and still be the same."""


def import_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    config: Mapping[str, Any] | None = None,
    source: str = "the state dict",
    other_settings: bool = False,
) -> StartReport:
    """Load a state dict of NeMo's into a module, each part whole or not at all.

    A pre-training task takes encoder, head, quantizer and mask; a task with another head takes the
    encoder. The features must be those that the weights were trained on: where the file has a
    window and a filter bank, they are compared with the module's own.

    Args:
        module: a task or an encoder whose parameters exist.
        state: by NeMo's names.
        config: the model's NeMo configuration, where it is known.
        source: where the tensors come from, for messages.
        other_settings: load although the configuration says that the same weights are meant for
            another function, such as another attention context; the report then lists it.

    Raises:
        CheckpointError: a part fits only in part, features differ, or settings do. The message
            says what the file has, what the model wants and which settings to change. Nothing was
            loaded.
    """
    task = as_task(module)
    books = getattr(getattr(task, "quantizer", None), "num_books", None)
    converted = from_nemo(state, books=books)
    own = state_of(task)
    notes = list(converted.notes)
    compared = _compared(config, task)
    decisive = compared.decisive
    notes += _check_features(converted.state, own, source, decisive)
    weights, passed_over = _parts_of(task, converted, own)
    origin = Origin(
        differences=_differences(converted.state, own),
        problems=[] if other_settings or not decisive else [*decisive, _ACCEPT],
    )
    notes += [f"accepted: {line}" for line in decisive]
    notes += [f"in training: {line}" for line in compared.training] + compared.unknown
    notes += _conversions(weights, own)
    report = start_from(task, weights, source=source, origin=origin)
    unused = [*converted.left_out, *passed_over, *nemo_names(report.unused)]
    return replace(report, unused=tuple(unused), notes=tuple(notes))


def export_from(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state by NeMo's names: of what NeMo has a counterpart for, everything.

    Args:
        module: a task or an encoder whose parameters exist.

    Raises:
        CheckpointError: it has no encoder that NeMo knows.
    """
    return converted_from(module).state


def converted_from(module: nn.Module) -> Converted:
    """Return :func:`export_from` with the names that have no counterpart."""
    converted = to_nemo(state_of(as_task(module)))
    if not any(name.startswith("encoder.layers.") for name in converted.state):
        kind = type(getattr(module, "encoder", module)).__name__
        raise CheckpointError(
            f"{kind} has no form in NeMo; expected a ConformerEncoder or a task that has one"
        )
    return converted


def _check_features(
    theirs: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    source: str,
    settings: Sequence[str],
) -> list[str]:
    """Refuse features that are not the file's; return a note if they cannot be compared."""
    problems: list[str] = []
    compared = 0
    for name in (f"features.{part}" for part in FEATURES):
        if name not in theirs or name not in own:
            continue
        compared += 1
        have, want = theirs[name].float().cpu(), own[name].float().cpu()
        if have.shape != want.shape:
            problems.append(f"{name}: {list(have.shape)} in the file, {list(want.shape)} here")
        elif (difference := float((have - want).abs().max())) > TOLERANCE:
            problems.append(f"{name}: differs by up to {difference:.2g}, more than {TOLERANCE:g}")
    if problems:
        wanted = list(_lines(theirs, own).get("features", []))
        wanted += [line for line in settings if line.startswith("preprocessor.")]
        raise CheckpointError(
            f"{source} was trained on other features:\n"
            + "\n".join(f"  {line}" for line in (*problems, *wanted))
        )
    if compared == len(FEATURES):
        return ["features agree with the file's window and filter bank"]
    return ["the features could not be compared with those that the file was trained on"]


def _compared(config: Mapping[str, Any] | None, task: nn.Module) -> Differing:
    if config is None:
        return Differing(
            unknown=["without configuration: what shapes do not show was not compared"]
        )
    theirs = model_section(config)
    found = differing(theirs, settings_of(task))
    norm = getattr(getattr(task, "quantizer", None), "input_norm", None)
    if norm is not None:
        targets = input_norm_differing(theirs, norm)
        found.decisive.extend(targets.decisive)
        found.unknown.extend(targets.unknown)
    return found


def _parts_of(
    task: nn.Module, converted: Converted, own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return what has a place in the task, and NeMo's names of a head of another kind."""
    weights = {n: t for n, t in converted.state.items() if not n.startswith("features.")}
    head = own.get("head.weight")
    if head is not None and head.ndim == 3:
        return weights, []
    heads = [name for name in weights if name.startswith("head.")]
    return {n: t for n, t in weights.items() if n not in heads}, nemo_names(heads)


def _differences(
    theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Sequence[str]]:
    found = _lines(theirs, own)
    # The features have no weights to be refused: the first part that reads them tells of them.
    reader = "masking" if "masking.embedding" in own else "encoder"
    if (bins := found.pop("features", None)) is not None:
        found[reader] = [*bins, *found.get(reader, [])]
    return dict(found)


def _lines(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return, for each part, the settings that the shapes of both sides disagree on."""
    have, want = architecture(theirs), architecture(own)
    found: dict[str, list[str]] = defaultdict(list)
    for path, value in have.items():
        if path in want and want[path] != value:
            text = str(value).lower() if isinstance(value, bool) else value
            line = f"task.{path}: {value} -> {want[path]}; task.{path}={text} would fit"
            found[path.partition(".")[0]].append(line)
    return found


def _conversions(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Say which tensors change their type when they are loaded."""
    counts: dict[str, int] = defaultdict(int)
    for name, tensor in weights.items():
        if name in own and own[name].dtype != tensor.dtype:
            counts[f"{tensor.dtype} to {own[name].dtype}".replace("torch.", "")] += 1
    return [f"{count} tensors converted from {change}" for change, count in counts.items()]
