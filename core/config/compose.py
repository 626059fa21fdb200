"""From a target and command-line tokens to a configuration, with every problem at once."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiddle as fdl

from core.config import environment, snapshot
from core.config.diff import differences, topmost
from core.config.hints import qualified_name
from core.config.lint import missing_problem
from core.config.load import ExperimentFile, load_experiment
from core.config.naming import defined_at, short_path
from core.config.notes import collected
from core.config.override import override
from core.config.paths import is_glob
from core.config.tokens import sort_tokens
from core.config.tree import format_path, missing_arguments, slots_of, walk
from core.config.types import coerce
from core.config.values import format_value
from core.errors import ConfigError, ConfigErrors, closest, suggest
from core.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A configuration and how it came about.

    Args:
        config: with all edits applied; nothing has been built.
        changes: one line for each edit by a preset or an override, ``path: old -> new``.
        knobs: every knob with its value; of a saved run, those it was made with.
        target: the experiment's module, or the directory that the configuration was read from.
        presets: names, in the order in which they were applied.
        notes: which knobs the environment set, and what the experiment function said of its
            choices.
    """

    config: fdl.Config[Experiment]
    changes: list[str]
    knobs: Mapping[str, Any]
    target: str
    presets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compose_target(
    target: str,
    tokens: Sequence[str],
    *,
    allow: Iterable[str] = (),
    suggested: Mapping[str, str] | None = None,
) -> Composed:
    """Compose an experiment file or module, or the saved configuration of a run or checkpoint.

    Args:
        target: file, module name, or directory with a ``config.json``.
        tokens: as for :func:`compose`.
        allow: packages that a saved configuration may refer to beside the usual ones.
        suggested: as for :func:`compose`; knobs of a saved configuration were applied long ago.

    Raises:
        ConfigError: the target is neither, or the tokens are not valid.
    """
    if Path(target).is_dir():
        return compose_saved(Path(target), tokens, allow=allow)
    return compose(load_experiment(target), tokens, suggested=suggested)


def compose(
    file: ExperimentFile, tokens: Sequence[str], *, suggested: Mapping[str, str] | None = None
) -> Composed:
    """Call an experiment function with its knobs, then apply presets and overrides in order.

    Args:
        file: the experiment.
        tokens: ``knob=value``, ``+preset``, ``path=value``, ``path=@kind/name``, ``'**.x=value'``.
        suggested: values of knobs, for those that the file has and neither a token nor an
            environment variable sets.

    Raises:
        ConfigErrors: all problems of all tokens, and required arguments that nothing set.
    """
    sorted_tokens = sort_tokens(tokens, file)
    added = {name: text for name, text in (suggested or {}).items() if name in file.knobs}
    told, lines = environment.read(file.variables, os.environ, sorted_tokens.knobs)
    knobs, problems = _knob_values(file, added | told | sorted_tokens.knobs, told)
    problems = sorted_tokens.problems + problems
    with collected() as notes:
        config = _call(file, knobs)
    changes: list[str] = []
    for name in sorted_tokens.presets:
        config = _apply_preset(config, name, file.presets[name], changes, problems)
    _apply_overrides(config, sorted_tokens.overrides, file.knobs, changes, problems)
    _raise_if_any(problems + _missing(config))
    return Composed(
        config=config,
        changes=changes,
        knobs=knobs,
        target=file.module,
        presets=tuple(sorted_tokens.presets),
        notes=(*lines, *notes),
    )


def compose_saved(directory: Path, tokens: Sequence[str], *, allow: Iterable[str] = ()) -> Composed:
    """Load the configuration saved in a run or checkpoint directory and apply overrides.

    Raises:
        ConfigErrors: all problems of all tokens; knobs and presets are not taken, since they were
            applied when the run was made.
    """
    config = snapshot.load(directory, allow=allow)
    header = snapshot.read_header(directory)
    sorted_tokens = sort_tokens(tokens, None)
    problems, changes = sorted_tokens.problems, list[str]()
    knobs = header.get("knobs", {})
    overrides = []
    for path, text in sorted_tokens.overrides:
        if path in knobs and path not in {slot.parameter for slot in slots_of(config)}:
            problems.append(
                f"{path}={text}: '{path}' is a knob, and knobs were applied when {directory} was "
                "made; override paths, or start from the experiment file"
            )
        else:
            overrides.append((path, text))
    _apply_overrides(config, overrides, {}, changes, problems)
    _raise_if_any(problems + _missing(config))
    return Composed(config=config, changes=changes, knobs=knobs, target=str(directory))


def compose_config(config: fdl.Config[Experiment], tokens: Sequence[str]) -> list[str]:
    """Apply overrides to a configuration in place; return a line for each edit.

    Raises:
        ConfigErrors: all problems of all tokens, and required arguments that nothing set.
    """
    sorted_tokens = sort_tokens(tokens, None)
    problems, changes = list(sorted_tokens.problems), list[str]()
    _apply_overrides(config, sorted_tokens.overrides, {}, changes, problems)
    _raise_if_any(problems + _missing(config))
    return changes


def _knob_values(
    file: ExperimentFile, texts: Mapping[str, str], told: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the value of every knob; one that is refused keeps its default for further checks.

    Args:
        file: whose knobs they are.
        texts: by knob.
        told: those of them that the environment set.
    """
    values = {name: knob.default for name, knob in file.knobs.items()}
    variables = {knob: variable for variable, knob in file.variables.items()}
    problems: list[str] = []
    for name, text in texts.items():
        source = f"environment variable {variables[name]}" if name in told else name
        try:
            values[name] = coerce(text, file.knobs[name].annotation, source)
        except ConfigError as error:
            default = format_value(file.knobs[name].default)
            what = f"it sets '{name}', a knob" if name in told else "a knob"
            problems.append(f"{error} ({what} of {defined_at(file.function)}, default {default})")
    return values, problems


def _call(file: ExperimentFile, knobs: Mapping[str, Any]) -> fdl.Config[Experiment]:
    config = file.function(**knobs)
    expected = "expected fdl.Config[Experiment]"
    if not isinstance(config, fdl.Config):
        found = type(config).__name__
        raise ConfigError(f"{defined_at(file.function)}: returned {found}; {expected}")
    made = fdl.get_callable(config)
    if not (isinstance(made, type) and issubclass(made, Experiment)):
        raise ConfigError(
            f"{defined_at(file.function)}: returned a Config of {qualified_name(made)}; {expected}"
        )
    return config


def _apply_preset(
    config: fdl.Config[Experiment],
    name: str,
    function: Callable[..., Any],
    changes: list[str],
    problems: list[str],
) -> fdl.Config[Experiment]:
    before = fdl.deepcopy_with(config)
    try:
        result = function(config)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)
        inside = [f for f in line if f.filename == inspect.unwrap(function).__code__.co_filename]
        last = f"{short_path(inside[-1].filename)}:{inside[-1].lineno}" if inside else ""
        where = last or defined_at(function)
        problems.append(f"+{name}: {where}: {type(error).__name__}: {error}")
        return before
    if result is not None:
        problems.append(f"+{name}: {defined_at(function)}: must edit in place and return nothing")
    found = differences(before, config)
    if not found:
        problems.append(f"+{name}: changes nothing here ({defined_at(function)})")
    changes.extend(
        f"{change.path}: {change.old} -> {change.new} (+{name})" for change in topmost(found)
    )
    return config


def _apply_overrides(
    config: fdl.Config[Experiment],
    overrides: Sequence[tuple[str, str]],
    knobs: Mapping[str, Any],
    changes: list[str],
    problems: list[str],
) -> None:
    """Apply what is valid; below a swap that failed nothing more is checked."""
    failed: list[str] = []
    for target, text in overrides:
        if any(target.startswith((f"{path}.", f"{path}[")) for path in failed):
            continue
        roots = [slot.parameter for slot in slots_of(config)]
        if target.isidentifier() and target not in roots:
            problems.append(_no_such_name(config, target, [*knobs, *roots]))
            continue
        try:
            changes.extend(override(config, target, text))
        except ConfigErrors as errors:
            problems.extend(errors.problems)
        except ConfigError as error:
            problems.append(str(error))
            if text.startswith("@") and not is_glob(target):
                failed.append(target)


def _no_such_name(config: fdl.Config[Experiment], target: str, names: Sequence[str]) -> str:
    """Say that a bare name is neither a knob nor a parameter of the experiment."""
    near = [format_path(slot.path) for slot in walk(config) if slot.path[-1] == target]
    near = list(dict.fromkeys([*closest(target, names, limit=2), *near]))[:3]
    hint = "did you mean " + " or ".join(f"'{name}'" for name in near) + "?"
    return f"{target}: neither a knob nor a parameter of Experiment; " + (
        hint if near else suggest(target, names)
    )


def _missing(config: fdl.Config[Experiment]) -> list[str]:
    return [missing_problem(slot) for slot in missing_arguments(config)]


def _raise_if_any(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigErrors(problems)
