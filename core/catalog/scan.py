"""Registrations found in one parsed module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard

from core.catalog.docstring import summary
from core.catalog.records import Broken, Entry, label_problem
from core.catalog.signature import docstring, parameters
from core.catalog.source import Definition, Library, Source, statements

_REGISTER = "core.registry.register"


def registrations(library: Library, source: Source, package: str) -> Iterator[Entry | Broken]:
    """Yield an entry for each ``@register("kind", "name")`` of a module.

    A call of ``register`` that the index cannot understand (labels that are not literals, a
    definition inside a function, a call that is no decorator) is yielded as broken.
    """
    indexed: list[ast.Call] = []
    for node, qualname in _definitions(source.tree.body, ""):
        decorators = [d for d in node.decorator_list if _is_register(d, source)]
        if not decorators:
            continue
        indexed += decorators
        labels = _labels(decorators[-1])
        if len(decorators) > 1:
            labels = f"{qualname} is registered more than once"
        if isinstance(labels, str):
            yield _broken(source, decorators[0], package, labels)
        else:
            yield _entry(library, source, node, qualname, labels, package)
    for call in _register_calls(source):
        if call not in indexed:
            reason = "register(...) must decorate a class or function at module level"
            yield _broken(source, call, package, reason)


def _is_register(node: ast.expr | None, source: Source) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and source.dotted(node.func) == _REGISTER


def _register_calls(source: Source) -> Iterator[ast.Call]:
    """Yield calls of ``register`` as decorators, as values and as ``register(...)(component)``."""
    for statement in statements(source.tree.body, inside=True):
        value = getattr(statement, "value", None)
        candidates = [
            *getattr(statement, "decorator_list", ()),
            value,
            getattr(value, "func", None),
        ]
        yield from (node for node in candidates if _is_register(node, source))


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[Definition, str]]:
    """Yield what an import defines, classes inside classes too, with qualified names."""
    for statement in statements(body, inside=False):
        if isinstance(statement, Definition):
            yield statement, prefix + statement.name
        if isinstance(statement, ast.ClassDef):
            yield from _definitions(statement.body, f"{prefix}{statement.name}.")


def _labels(call: ast.Call) -> tuple[str, str] | str:
    """Return kind and name of ``register(kind, name)``, or what is wrong with them."""
    given: dict[str, ast.expr] = dict(zip(("kind", "name"), call.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
    if set(given) != {"kind", "name"} or len(call.args) + len(call.keywords) != 2:
        return f"expected register(kind, name), found {ast.unparse(call)}"
    kind, name = given["kind"], given["name"]
    if not isinstance(kind, ast.Constant) or not isinstance(name, ast.Constant):
        return f"kind and name must be string literals, found {ast.unparse(call)}"
    problem = label_problem(kind.value, name.value)
    return problem or (str(kind.value), str(name.value))


def _entry(
    library: Library,
    source: Source,
    node: Definition,
    qualname: str,
    labels: tuple[str, str],
    package: str,
) -> Entry:
    doc = docstring(node)
    return Entry(
        kind=labels[0],
        name=labels[1],
        module=source.module,
        qualname=qualname,
        file=source.path,
        line=node.lineno,
        parameters=parameters(library, source, node),
        summary=summary(doc),
        doc=doc,
        package=package,
    )


def _broken(source: Source, node: ast.expr, package: str, reason: str) -> Broken:
    return Broken(package=package, where=f"{source.path}:{node.lineno}", reason=reason)
