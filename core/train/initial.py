"""``--init-from``: the weights that a new run starts from."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fiddle as fdl
from torch import nn

from core import catalog, registry
from core import uri as uris
from core.checkpoint.format import ASSETS, EMA, read_inference_model
from core.checkpoint.locate import resolve_checkpoint
from core.checkpoint.start import Origin, start_from
from core.config import snapshot
from core.config.diff import ABSENT, Difference, differences, topmost
from core.config.naming import label
from core.contracts.weights import Weights
from core.data.assets import TOKENIZER
from core.errors import CheckpointError, ConfigError
from core.model_folder import find_model_folder

KIND = "weights"
ENCODER_FROM = "encoder_from"
"""Knob of an experiment that takes the architecture of a former run's encoder and features."""


def start_name(text: str) -> str:
    """Return what ``--init-from`` names in one spelling: a URI as it is, a path as a path.

    Raises:
        CheckpointError: it is a file, which needs a scheme.
        ConfigError: its scheme is unknown.
    """
    path = Path(text)
    scheme, colon, _ = text.partition(":")
    if not path.exists() and colon and scheme.isidentifier():
        open_weights(text)
        return text
    if path.is_file() or (not path.exists() and path.suffix == ".nemo"):
        schemes = " or ".join(f"{name}:{text}" for name in sorted(catalog.index().names(KIND)))
        raise CheckpointError(
            f"{text} is no run and no checkpoint directory; a file of another toolkit is named "
            f"with its form, such as {schemes}"
        )
    folder = find_model_folder(path)
    if folder is not None:
        identity = registry.identify(type(folder))
        scheme = identity[1] if identity is not None else KIND
        raise CheckpointError(
            f"{text} holds weights, not checkpoints; name it with its form, {scheme}:{text}"
        )
    return str(path)


def suggested_knobs(init_from: str | None) -> dict[str, str]:
    """Return the knobs that a run whose weights come from another run sets by itself."""
    if init_from is None or _is_uri(init_from):
        return {}
    return {ENCODER_FROM: init_from}


def open_weights(uri: str) -> Weights:
    """Make what ``uri`` names, such as ``nemo:model.nemo``. Raises ConfigError."""
    made: Weights = uris.make(uri, kind=KIND, noun="weights")
    return made


def initialise(
    task: nn.Module, init_from: str, *, config: fdl.Config[Any], assets: Path
) -> list[str]:
    """Start the modules of a task from other weights; return lines on what was taken.

    Of a run the best checkpoint is read, and of that the averaged weights where the run kept them:
    they are the ones that were validated.

    Args:
        task: whose parameters exist.
        init_from: run, checkpoint or URI.
        config: of this run's experiment.
        assets: of this run.

    Raises:
        CheckpointError: nothing complete is there, or a module fits only in part.
    """
    if _is_uri(init_from):
        report = open_weights(init_from).load(task)
        return [f"weights from {init_from}:", *(f"  {line}" for line in report.lines())]
    source = resolve_checkpoint(Path(init_from), prefer="best")
    origin = _origin(task, source, config=config, assets=assets)
    report = start_from(task, read_inference_model(source), source=str(source), origin=origin)
    averaged = ", averaged" if (source / EMA).exists() else ""
    return [f"weights from {source}{averaged}:", *(f"  {line}" for line in report.lines())]


def _is_uri(text: str) -> bool:
    return text.partition(":")[0] in catalog.index().names(KIND) and not Path(text).exists()


def _origin(task: nn.Module, source: Path, *, config: fdl.Config[Any], assets: Path) -> Origin:
    tokenizer = getattr(task, "tokenizer", None)
    saved = _saved(source)
    return Origin(
        differences=_by_child(differences(saved, config)) if saved is not None else {},
        replaced=dict(_replaced(saved, config)) if saved is not None else {},
        heads=frozenset(_heads(config)),
        vocabulary=tokenizer.vocab_size if tokenizer is not None else None,
        same_vocabulary=_same_files(source / ASSETS / TOKENIZER, assets / TOKENIZER),
    )


def _saved(source: Path) -> fdl.Config[Any] | None:
    """Return the source's configuration; None where its code is no longer here."""
    try:
        return snapshot.load(source)
    except ConfigError:
        return None


def _by_child(found: list[Difference]) -> dict[str, list[str]]:
    """Group what differs under ``task`` by the task's arguments."""
    grouped: dict[str, list[str]] = {}
    for change in topmost(found):
        root, _, rest = change.path.partition(".")
        if root == "task" and rest:
            line = f"{change.path}: {change.old} -> {change.new}"
            grouped.setdefault(rest.partition(".")[0], []).append(line)
    return grouped


def _components(config: fdl.Config[Any]) -> Mapping[str, fdl.Config[Any]]:
    """Return the components that the task is made of, by argument."""
    task = getattr(config, "task", None)
    arguments = task.__arguments__ if isinstance(task, fdl.Config) else {}
    return {n: v for n, v in arguments.items() if isinstance(v, fdl.Config)}


def _replaced(saved: fdl.Config[Any], config: fdl.Config[Any]) -> Iterator[tuple[str, str]]:
    """Yield the modules that are another component now."""
    former = _components(saved)
    for name, component in _components(config).items():
        before = label(former[name]) if name in former else ABSENT
        if before != label(component):
            yield name, f"the file's is {before}, this model's {label(component)}"


def _heads(config: fdl.Config[Any]) -> Iterator[str]:
    for name, component in _components(config).items():
        identity = registry.identify(fdl.get_callable(component))
        if identity is not None and identity[0] == "head":
            yield name


def _same_files(first: Path, second: Path) -> bool:
    """Return whether two folders hold the same files, byte for byte."""
    names = [
        sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
        for folder in (first, second)
    ]
    return names[0] == names[1] and all(
        filecmp.cmp(first / name, second / name, shallow=False) for name in names[0]
    )
