"""A configuration on disk: ``config.json`` to replay, ``config.py`` and ``config.txt`` to read."""

from __future__ import annotations

import json
import os
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

import fiddle as fdl
from fiddle import daglish
from fiddle.experimental import serialization

from core.config.codegen import generate
from core.config.flatten import fingerprint, flat_text
from core.config.hints import is_dtype, qualified_name
from core.config.naming import attributed
from core.config.policy import Allowlist
from core.config.tree import KeyPath, format_path, parameters, walk
from core.errors import ConfigError, ConfigErrors, suggest

if typing.TYPE_CHECKING:
    from core.experiment import Experiment

JSON_NAME, PY_NAME, TEXT_NAME = "config.json", "config.py", "config.txt"

for _path_type in (PosixPath, WindowsPath):
    serialization.register_node_traverser(
        _path_type,
        flatten_fn=lambda path: ((str(path),), None),
        unflatten_fn=lambda values, _: Path(values[0]),
        path_elements_fn=lambda _: (daglish.Attr("text"),),
    )


def save(
    config: fdl.Buildable[Any],
    directory: Path,
    *,
    header: Mapping[str, Any],
    allow: Iterable[str] = (),
) -> None:
    """Write ``config.json``, ``config.py`` and ``config.txt``; each appears whole or not at all.

    Args:
        config: what to save.
        directory: existing folder.
        header: JSON values on how the configuration came about, kept in ``config.json``.
        allow: packages that may be referred to beside ours and those of registered plugins.

    Raises:
        ConfigError: a value or reference could not be loaded again; every one is named.
    """
    policy = Allowlist(allow)
    problems = list(_refused(config, policy))
    if problems:
        raise ConfigErrors(problems)
    _register_dtypes()
    try:
        text = serialization.dump_json(config, policy)
    except (serialization.UnserializableValueError, serialization.PyrefPolicyError) as error:
        raise ConfigError(f"the configuration cannot be saved: {error}") from None
    mark = {"fingerprint": fingerprint(config), **header}
    document = {"header": mark, **json.loads(text)}
    _write(directory / JSON_NAME, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    _write(directory / PY_NAME, generate(config, mark))
    _write(directory / TEXT_NAME, flat_text(config))


def load(directory: Path, *, allow: Iterable[str] = ()) -> fdl.Config[Experiment]:
    """Read back the configuration of a run or checkpoint directory; nothing of it is executed.

    Only modules of allowed packages are imported, and only to look up the classes and functions
    that they define themselves.

    Args:
        directory: with a ``config.json``.
        allow: as for :func:`save`.

    Raises:
        ConfigError: the file is missing or damaged, refers to what is not allowed or no longer
            exists, or sets arguments that no longer exist; all such are named.
    """
    path = directory / JSON_NAME
    document = _read(path)
    policy = Allowlist(allow)
    problems = [p for ref in _references(document) if (p := _reference_problem(ref, policy))]
    if problems:
        raise ConfigErrors([f"{path}: {problem}" for problem in dict.fromkeys(problems)])
    try:
        config = serialization.load_json(json.dumps(document), policy)
    except (LookupError, TypeError, ValueError, serialization.DeserializationError) as error:
        raise ConfigError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    if not isinstance(config, fdl.Config):
        raise ConfigError(f"{path}: holds a {type(config).__name__}, expected a fdl.Config")
    problems = list(_unknown_arguments(config))
    if problems:
        raise ConfigErrors([f"{path}: {problem}" for problem in problems])
    _attribute(config, path)
    return config


def read_header(directory: Path) -> dict[str, Any]:
    """Return what :func:`save` was given as ``header``, and the ``fingerprint`` of that time."""
    header = _read(directory / JSON_NAME).get("header", {})
    return header if isinstance(header, dict) else {}


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent}: has no {path.name}; expected a run or checkpoint directory"
        ) from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, dict) or not {"root", "objects"} <= document.keys():
        raise ConfigError(f"{path}: is not a saved configuration")
    return document


def _refused(config: fdl.Buildable[Any], policy: Allowlist) -> Iterator[str]:
    if not policy.allows_value(fdl.get_callable(config)):
        yield policy.refusal(fdl.get_callable(config))
    for slot in walk(config):
        thing = slot.value
        if isinstance(thing, fdl.Buildable):
            thing = fdl.get_callable(thing)
        elif not isinstance(thing, type | typing.cast("Any", type(save))):
            continue
        if not policy.allows_value(thing):
            yield f"{format_path(slot.path)}: {policy.refusal(thing)}"


def _register_dtypes() -> None:
    """Let torch dtypes be saved by name, if torch is in use at all."""
    torch = sys.modules.get("torch")
    for value in list(vars(torch).values()) if torch else ():
        if is_dtype(type(value)):
            name = str(value).removeprefix("torch.")
            serialization.register_constant("torch", name, compare_by_identity=True)


def _references(node: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    if isinstance(node, dict):
        if node.get("type") == "pyref":
            yield str(node.get("module")), str(node.get("name"))
        node = [value for key, value in node.items() if key != "header"]
    if isinstance(node, list):
        for item in node:
            yield from _references(item)


def _reference_problem(reference: tuple[str, str], policy: Allowlist) -> str | None:
    module, name = reference
    try:
        serialization.import_symbol(policy, module, name)
    except serialization.PyrefPolicyError:
        return f"refers to {module}.{name}, which is not allowed ({policy})"
    except (ImportError, AttributeError) as error:
        return f"refers to {module}.{name}, which does not exist here: {str(error).splitlines()[0]}"
    return None


def _unknown_arguments(config: fdl.Buildable[Any]) -> Iterator[str]:
    nodes: dict[int, tuple[KeyPath, fdl.Buildable[Any]]] = {id(config): ((), config)}
    for slot in walk(config):
        if isinstance(slot.value, fdl.Buildable):
            nodes.setdefault(id(slot.value), (slot.path, slot.value))
    for path, node in nodes.values():
        known = parameters(node)
        for name in node.__arguments__:
            if name not in known and not node.__signature_info__.has_var_keyword:
                function = fdl.get_callable(node)
                hint = suggest(str(name), known, noun="arguments")
                yield (
                    f"{format_path((*path, name))}: {qualified_name(function)} no longer takes "
                    f"'{name}'; {hint}"
                )


def _attribute(config: fdl.Buildable[Any], path: Path) -> None:
    """Give every loaded value the file as its origin."""
    nodes = [config, *(s.value for s in walk(config) if isinstance(s.value, fdl.Buildable))]
    with attributed(path):
        for node in {id(node): node for node in nodes}.values():
            for name, value in list(node.__arguments__.items()):
                setattr(node, name, value)
