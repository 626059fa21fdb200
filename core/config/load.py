"""Loading an experiment file: the module behind a path, its function, knobs and presets."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from core.config.environment import variables_of
from core.config.hints import describe, parameter_hints
from core.config.naming import defined_at
from core.config.presets import is_preset
from core.config.values import format_value, matches
from core.errors import ConfigError, ConfigErrors, closest, suggest

FUNCTION = "experiment"


@dataclass(frozen=True, kw_only=True)
class ExperimentFile:
    """An imported experiment file.

    Args:
        module: dotted name that it was imported under.
        path: the file.
        function: ``experiment(*, knobs) -> fdl.Config[Experiment]``.
        knobs: its parameters by name, with resolved annotations and defaults.
        presets: functions marked with ``@preset``, by name, from this module and ``presets``
            beside it.
        variables: environment variables that set knobs, each with its knob.
    """

    module: str
    path: Path
    function: Callable[..., Any]
    knobs: Mapping[str, inspect.Parameter]
    presets: Mapping[str, Callable[..., Any]]
    variables: Mapping[str, str]


def load_experiment(target: str) -> ExperimentFile:
    """Import an experiment by file or module name.

    A file is imported as the module that it is: its package root (the first folder above it
    without ``__init__.py``) is put on ``sys.path``; the file is never executed by its path.

    Raises:
        ConfigError: there is no such file or module, or it does not define ``experiment`` with
            keyword-only, annotated knobs that have defaults.
    """
    module = _import_target(target)
    path = Path(module.__file__ or module.__name__)
    function = getattr(module, FUNCTION, None)
    if not inspect.isfunction(function):
        raise ConfigError(
            f"{path}: defines no function '{FUNCTION}'; expected "
            f"def {FUNCTION}(*, knob: type = value, ...) -> fdl.Config[Experiment]"
        )
    knobs = _knobs(function)
    return ExperimentFile(
        module=module.__name__,
        path=path,
        function=function,
        knobs=knobs,
        presets=_presets(module, path),
        variables=_variables(function, knobs),
    )


def _import_target(target: str) -> ModuleType:
    if not target.endswith(".py") and "/" not in target:
        return _import_module(target)
    path = Path(target).resolve()
    if not path.is_file():
        raise ConfigError(_no_such_file(target, path))
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ConfigError(f"{target}: not a Python module; expected a file such as name.py")
    root, name = _module_of(path)
    if str(root) not in map(str, map(_absolute, sys.path)):
        sys.path.append(str(root))
    module = importlib.import_module(name)
    found = Path(module.__file__ or "").resolve()
    if found != path:
        raise ConfigError(
            f"{target}: is module '{name}', but that name is taken by {found}; rename the file"
        )
    return module


def _absolute(entry: str) -> Path:
    return Path(entry).resolve()


def _module_of(path: Path) -> tuple[Path, str]:
    """Return the package root of a file and its module name from there."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _no_such_file(target: str, path: Path) -> str:
    if not path.parent.is_dir():
        return f"{target}: no such file, and no folder {path.parent}"
    names = [p.stem for p in path.parent.glob("*.py") if p.stem != "__init__"]
    near = closest(path.stem, names, limit=1)
    hint = f"did you mean '{near[0]}.py'?" if near else suggest(path.stem, names, noun="modules")
    return f"{target}: no such file; {hint}"


def _import_module(name: str) -> ModuleType:
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None:
        files = [str(path) for path in Path("experiments").glob("*.py") if path.stem != "__init__"]
        near = closest(f"experiments/{name.rpartition('.')[2]}.py", files, limit=1)
        hint = f"did you mean {near[0]}?" if near else "expected experiments/NAME.py or a module"
        raise ConfigError(f"{name}: no such experiment file or module; {hint}")
    return importlib.import_module(name)


def _knobs(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    where = defined_at(function)
    hints = parameter_hints(function)
    knobs: dict[str, inspect.Parameter] = {}
    problems: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        problem = _knob_problem(parameter, hints.get(name))
        if problem:
            problems.append(f"{where}: knob '{name}' {problem}")
        else:
            knobs[name] = parameter.replace(annotation=hints[name])
    if problems:
        raise ConfigErrors(problems)
    return MappingProxyType(knobs)


def _knob_problem(parameter: inspect.Parameter, hint: Any) -> str | None:  # noqa: ANN401
    if parameter.kind is not parameter.KEYWORD_ONLY:
        return "must be keyword-only: write * before it"
    if parameter.annotation is parameter.empty:
        return "has no annotation, such as ': int'"
    if parameter.default is parameter.empty:
        return "has no default"
    if not matches(parameter.default, hint):
        default = format_value(parameter.default)
        return f"has the default {default}, which is not {describe(hint)}"
    return None


def _variables(
    function: Callable[..., Any], knobs: Mapping[str, inspect.Parameter]
) -> Mapping[str, str]:
    found = variables_of(function)
    where = defined_at(function)
    problems = [
        f"{where}: the environment variable {variable} sets '{knob}', which is no knob; "
        f"{suggest(knob, knobs, noun='knobs')}"
        for variable, knob in found.items()
        if knob not in knobs
    ]
    if problems:
        raise ConfigErrors(problems)
    return MappingProxyType(dict(found))


def _presets(module: ModuleType, path: Path) -> Mapping[str, Callable[..., Any]]:
    found = {name: value for name, value in vars(module).items() if is_preset(value)}
    beside = path.parent / "presets.py"
    if beside.is_file() and beside.resolve() != path.resolve():
        package = module.__name__.rpartition(".")[0]
        shared = importlib.import_module(f"{package}.presets" if package else "presets")
        for name, value in vars(shared).items():
            if not is_preset(value):
                continue
            if found.setdefault(name, value) is not value:
                raise ConfigError(f"{path}: preset '{name}' is also in {beside}; rename one")
    return MappingProxyType(found)
