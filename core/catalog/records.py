"""What the catalog holds: components, their parameters, and what could not be read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from core.errors import RegistryError, suggest

FIRST_PARTY = "sori"
"""``Entry.package`` of components that come with this framework."""

ParameterStyle = Literal["positional", "var-positional", "keyword", "var-keyword"]

_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]*")


def label_problem(kind: object, name: object) -> str | None:
    """Say why ``kind`` and ``name`` cannot label a component; None if they can."""
    for what, label in (("kind", kind), ("name", name)):
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            return f"{what} must be a string of a-z, 0-9, '.', '_' and '-', but is {label!r}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One constructor argument, as written in the source.

    Args:
        name: of the argument.
        annotation: source text of the type, empty if there is none.
        default: source text of the default value, None if the argument is required.
        doc: from the ``Args:`` section, empty if there is none.
        style: how it may be passed; ``positional`` arguments may be passed by keyword too.
    """

    name: str
    annotation: str = ""
    default: str | None = None
    doc: str = ""
    style: ParameterStyle = "keyword"

    @property
    def required(self) -> bool:
        """Whether a call without this argument fails."""
        return self.default is None and not self.style.startswith("var-")

    def __str__(self) -> str:
        stars = {"var-positional": "*", "var-keyword": "**"}.get(self.style, "")
        text = stars + self.name + (f": {self.annotation}" if self.annotation else "")
        if self.default is None:
            return text
        return f"{text} = {self.default}" if self.annotation else f"{text}={self.default}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered component.

    Args:
        kind: such as ``encoder``.
        name: unique within the kind.
        module: dotted name to import.
        qualname: of the class or function inside the module.
        file: source file.
        line: of the ``class`` or ``def`` statement, counted from 1.
        parameters: of the constructor or function, in order, without ``self``.
        summary: first line of the docstring.
        doc: whole docstring, dedented.
        package: ``sori``, or the name of the distribution that brings the component.
    """

    kind: str
    name: str
    module: str
    qualname: str
    file: Path
    line: int
    parameters: tuple[Parameter, ...]
    summary: str
    doc: str
    package: str

    @property
    def path(self) -> str:
        """The label, such as ``encoder/conformer``."""
        return f"{self.kind}/{self.name}"

    @property
    def signature(self) -> str:
        """The parameters as they would stand in a ``def`` statement."""
        parts: list[str] = []
        starred = False
        for parameter in self.parameters:
            if parameter.style == "keyword" and not starred:
                parts.append("*")
            starred = starred or parameter.style in ("keyword", "var-positional")
            parts.append(str(parameter))
        return f"({', '.join(parts)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Something that should have given components and did not; fatal only when it is used.

    Args:
        package: ``sori`` or a distribution.
        where: a file with its line, or an entry point.
        reason: what is wrong with it.
    """

    package: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where} [{self.package}]: {self.reason}"


@dataclass(frozen=True)
class Catalog:
    """Every component that can be found without importing one.

    Args:
        entries: sorted by kind and name.
        broken: what could not be read, including names that are taken twice.
    """

    entries: tuple[Entry, ...]
    broken: tuple[Broken, ...] = ()

    @cached_property
    def _by_path(self) -> dict[tuple[str, str], list[Entry]]:
        table: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            table.setdefault((entry.kind, entry.name), []).append(entry)
        return table

    def kinds(self) -> tuple[str, ...]:
        """Return all kinds that have a component, sorted."""
        return tuple(sorted({entry.kind for entry in self.entries}))

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of a kind, sorted; none for a kind that no component has."""
        return tuple(sorted(name for known, name in self._by_path if known == kind))

    def counts(self) -> dict[str, int]:
        """Return the number of components of each kind."""
        return dict(sorted(Counter(kind for kind, _ in self._by_path).items()))

    def of_kind(self, kind: str) -> tuple[Entry, ...]:
        """Return the components of ``kind``.

        Raises:
            RegistryError: no component has this kind; the message gives the nearest one.
        """
        found = tuple(entry for entry in self.entries if entry.kind == kind)
        if not found:
            hint = suggest(kind, self.kinds(), noun="kinds")
            raise RegistryError(f"unknown kind '{kind}': {hint}{self._broken_note()}")
        return found

    def find(self, kind: str, name: str) -> Entry:
        """Return one component.

        Raises:
            RegistryError: kind or name is unknown (with the nearest), or the name is taken twice
                (with both places).
        """
        found = self._by_path.get((kind, name), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise RegistryError(duplicate_message(found))
        self.of_kind(kind)
        hint = suggest(name, self.names(kind), noun=f"names of kind '{kind}'")
        raise RegistryError(f"unknown {kind} '{name}': {hint}{self._broken_note()}")

    def _broken_note(self) -> str:
        if not self.broken:
            return ""
        lines = "".join(f"\n  {item}" for item in self.broken)
        return f"\nit may be in one of these, which could not be read:{lines}"


def duplicate_message(entries: list[Entry]) -> str:
    """Name every place that registers one and the same kind and name."""
    places = "".join(f"\n  {e.file}:{e.line} ({e.module}.{e.qualname})" for e in entries)
    return f"{entries[0].path} is registered {len(entries)} times; rename all but one:{places}"
