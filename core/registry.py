"""Components by kind and name.

A component is a class or function under ``@register("kind", "name")``. Which ones exist is read
from source by :mod:`core.catalog`; a component's module is imported only when it is looked up.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from types import FrameType
from typing import Any, TypeVar

from core import catalog
from core.catalog.records import Entry, label_problem
from core.errors import RegistryError

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registration:
    """A component that has been imported, and where it was registered."""

    path: tuple[str, str]
    owner: tuple[str, str]
    component: Callable[..., Any]
    place: str


_by_path: dict[tuple[str, str], _Registration] = {}
_by_owner: dict[tuple[str, str], _Registration] = {}


def register(kind: str, name: str) -> Callable[[T], T]:
    """Register a class or factory under ``kind`` and ``name`` and return it unchanged.

    Write both as literals, in a decorator at module level: the catalog reads them from source.
    Importing or reloading a module again replaces its own registrations.

    Args:
        kind: what it can stand in for, such as ``encoder``.
        name: unique within the kind.

    Raises:
        RegistryError: another component has this kind and name (both places are named), this
            component is registered already under another one, or a label is not valid.
    """
    place = _place(sys._getframe(1))
    problem = label_problem(kind, name)
    if problem:
        raise RegistryError(f"{place}: {problem}")

    def decorate(component: T) -> T:
        new = _Registration(
            path=(kind, name), owner=_owner(component), component=component, place=place
        )
        _refuse_conflict(new, _by_path.get(new.path), _by_owner.get(new.owner))
        if (stale := _by_owner.get(new.owner)) and stale.path != new.path:
            del _by_path[stale.path]  # its module was reloaded with another label
        _by_path[new.path] = new
        _by_owner[new.owner] = new
        return component

    return decorate


def lookup(kind: str, name: str) -> Callable[..., Any]:
    """Return a component, importing the one module that defines it.

    Components that are not in the catalog are found if their module has been imported, such as
    one that an experiment file defines for itself.

    Raises:
        RegistryError: kind or name is unknown (with the nearest), or the module does not import.
    """
    index = catalog.index()
    if name not in index.names(kind) and (kind, name) in _by_path:
        return _by_path[kind, name].component
    return _load(index.find(kind, name))


def lookup_path(path: str) -> Callable[..., Any]:
    """Return a component by its label, such as ``encoder/conformer``. Raises RegistryError."""
    kind, slash, name = path.partition("/")
    if not slash or not kind or not name:
        raise RegistryError(f"expected kind/name, such as encoder/conformer, found '{path}'")
    return lookup(kind, name)


def identify(component: object) -> tuple[str, str] | None:
    """Return kind and name of a registered class or factory, None for anything else."""
    registration = _by_owner.get(_owner(component))
    return registration.path if registration else None


def _load(entry: Entry) -> Callable[..., Any]:
    place = f"{entry.file}:{entry.line}"
    try:
        module = importlib.import_module(entry.module)
        component = reduce(getattr, entry.qualname.split("."), module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RegistryError(f"{entry.path} ({place}) cannot be imported: {reason}") from error
    if identify(component) != (entry.kind, entry.name):
        found = f"{entry.module}.{entry.qualname}"
        raise RegistryError(
            f"{place} reads as {entry.path}, but importing {found} did not register it"
        )
    return component  # type: ignore[return-value]


def _owner(component: object) -> tuple[str, str]:
    """Return module and qualified name, those of the real module for one run as a script."""
    module = str(getattr(component, "__module__", ""))
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = spec.name if spec else module
    return module, str(getattr(component, "__qualname__", ""))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _refuse_conflict(
    new: _Registration, same_path: _Registration | None, same_owner: _Registration | None
) -> None:
    label = "/".join(new.path)
    if same_path and same_path.owner != new.owner:
        raise RegistryError(
            f"{label} is registered twice; rename one of\n"
            f"  {same_path.place} ({'.'.join(same_path.owner)})\n"
            f"  {new.place} ({'.'.join(new.owner)})"
        )
    if same_owner and same_owner.path != new.path and same_owner.component is new.component:
        raise RegistryError(
            f"{new.place}: {'.'.join(new.owner)} is registered as {label} and already as "
            f"{'/'.join(same_owner.path)}; a component has one kind and one name"
        )
