"""A configuration as a Python module that rebuilds it, for people to read."""

from __future__ import annotations

import enum
import keyword
import math
import re
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import fiddle as fdl

from core.config.hints import is_dtype
from core.config.tree import walk

WIDTH = 100
_INDENT = "    "


def generate(config: fdl.Buildable[Any], header: Mapping[str, Any]) -> str:
    """Return the source of a module whose ``experiment()`` returns an equal configuration.

    What is shared in the configuration is a variable in the source, so that sharing is kept. The
    module is itself an experiment file.

    Args:
        config: of plain data, dtypes, paths, classes, functions and Buildables.
        header: shown in the module's docstring.
    """
    return _Writer(config).module(header)


class _Writer:
    def __init__(self, config: fdl.Buildable[Any]) -> None:
        self.config = config
        self.imports: dict[str, tuple[str, str]] = {"fdl": ("fiddle", "")}
        self.variables: dict[int, str] = {}
        self.statements: list[str] = []
        self.shared = self._shared_names()

    def module(self, header: Mapping[str, Any]) -> str:
        body = f"return {self.expression(self.config, 1, len('return '))}"
        returns = self.name(fdl.get_callable(self.config))
        lines = ['"""Configuration of a run, generated when it started.', ""]
        lines += [_comment(f"{key}: {value}") for key, value in header.items()]
        lines += ['"""', "", "from __future__ import annotations", ""]
        lines += [*_import_lines(self.imports), "", ""]
        lines += [f"def experiment() -> fdl.Config[{returns}]:"]
        lines += ['    """Return the configuration; nothing is built."""']
        lines += [f"{_INDENT}{statement}" for statement in [*self.statements, body]]
        return "\n".join(lines) + "\n"

    def expression(self, value: Any, depth: int, used: int) -> str:  # noqa: ANN401
        """Return a value as an expression, broken into lines where it is too long.

        Args:
            value: what to write.
            depth: indentation of the line that the expression starts on.
            used: columns of that line that are taken, beyond the indentation.
        """
        if id(value) in self.shared and isinstance(value, fdl.Buildable):
            return self._variable(value)
        if isinstance(value, fdl.Buildable):
            function = self.name(fdl.get_callable(value))
            items = [("", function, None)]
            items += [(f"{name}=", "", child) for name, child in value.__arguments__.items()]
            return self._bracket(f"fdl.{type(value).__name__}(", items, ")", depth, used)
        if isinstance(value, list | tuple):
            opening, closing = "[]" if isinstance(value, list) else "()"
            items = [("", "", child) for child in value]
            comma = isinstance(value, tuple) and len(value) == 1
            return self._bracket(opening, items, closing, depth, used, comma=comma)
        if isinstance(value, dict):
            items = [(f"{self.constant(key)}: ", "", child) for key, child in value.items()]
            return self._bracket("{", items, "}", depth, used)
        return self.constant(value)

    def _bracket(
        self,
        opening: str,
        items: list[tuple[str, str, Any]],
        closing: str,
        depth: int,
        used: int,
        *,
        comma: bool = False,
    ) -> str:
        """Write items (prefix, text or else value) on one line if they fit, else one a line."""
        flat = [p + (t or self.expression(v, 0, -(10**6))) for p, t, v in items]
        line = opening + ", ".join(flat) + ("," if comma else "") + closing
        if len(_INDENT) * depth + used + len(line) + 1 <= WIDTH:
            return line
        pad = _INDENT * (depth + 1)
        parts = [p + (t or self.expression(v, depth + 1, len(p))) for p, t, v in items]
        return "\n".join([opening, *(f"{pad}{part}," for part in parts), _INDENT * depth + closing])

    def constant(self, value: Any) -> str:  # noqa: ANN401
        if isinstance(value, enum.Enum):
            return f"{self.name(type(value))}.{value.name}"
        if isinstance(value, PurePath):
            return f"{self._import('pathlib', 'Path')}({str(value)!r})"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, type | types.FunctionType):
            return self.name(value)
        if is_dtype(type(value)):
            return f"{self._import('torch', '')}.{str(value).removeprefix('torch.')}"
        return _string(value) if type(value) is str else repr(value)

    def name(self, thing: Any) -> str:  # noqa: ANN401
        """Return how to refer to a class or function, importing it."""
        module, (outer, *inner) = thing.__module__, thing.__qualname__.split(".")
        if module == "builtins":
            return str(thing.__qualname__)
        return ".".join([self._import(module, outer), *inner])

    def _import(self, module: str, name: str) -> str:
        """Import a name (or the module itself) once and return what it is called here."""
        wanted = name or module
        for alias in (wanted, f"{wanted}_of_{module.replace('.', '_')}"):
            if self.imports.setdefault(alias, (module, name)) == (module, name):
                return alias
        raise AssertionError(f"two imports of {module}.{name}")

    def _variable(self, value: fdl.Buildable[Any]) -> str:
        name = self.variables.get(id(value))
        if name is None:
            name = self.shared.pop(id(value))
            text = f"{name} = {self.expression(value, 1, len(name) + 3)}"
            self.statements.append(text)
            self.shared[id(value)] = self.variables[id(value)] = name
        return name

    def _shared_names(self) -> dict[int, str]:
        """Return a variable name for every Buildable that is held in more than one place."""
        holders: dict[int, set[tuple[int, Any]]] = {}
        names: dict[int, str] = {}
        for slot in walk(self.config):
            if isinstance(slot.value, fdl.Buildable):
                place = (id(slot.owner), (slot.parameter, slot.inner))
                holders.setdefault(id(slot.value), set()).add(place)
                names.setdefault(id(slot.value), _identifier(slot.parameter, names.values()))
        return {key: names[key] for key, places in holders.items() if len(places) > 1}


def _identifier(wanted: str, taken: Any) -> str:  # noqa: ANN401
    base = re.sub(r"\W", "_", wanted)
    base = f"{base}_" if keyword.iskeyword(base) else base
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _string(text: str) -> str:
    """Return a string literal in double quotes where that needs no escape."""
    quoted = repr(text)
    return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in text else quoted


def _comment(text: str) -> str:
    safe = text.replace("\\", "\\\\").replace('"""', "'''").replace("\n", " ")
    return safe if not safe.endswith('"') else f"{safe} "


def _import_lines(imports: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return import statements, third-party modules first, each module once."""
    plain = ["import fiddle as fdl"]
    plain += [f"import {module}" for module, name in imports.values() if not name][1:]
    names: dict[str, list[str]] = {}
    for alias, (module, name) in sorted(imports.items()):
        if name:
            names.setdefault(module, []).append(name if alias == name else f"{name} as {alias}")
    lines = [*plain, ""]
    for module in sorted(names):
        line = f"from {module} import {', '.join(names[module])}"
        if len(line) > WIDTH:
            parts = "".join(f"{_INDENT}{name},\n" for name in names[module])
            line = f"from {module} import (\n{parts})"
        lines.append(line)
    return lines
