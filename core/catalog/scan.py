"""Registrations found in one parsed module."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from core.catalog.docstring import summary
from core.catalog.records import Broken, Entry, label_problem
from core.catalog.signature import docstring, parameters
from core.catalog.source import Definition, Library, Source, module_level

_REGISTER = "core.registry.register"


def registrations(library: Library, source: Source, package: str) -> Iterator[Entry | Broken]:
    """Yield an entry for each ``@register("kind", "name")`` of a module.

    A call of ``register`` that the index cannot understand (labels that are not literals, a
    definition inside a function, a call that is no decorator) is yielded as broken.
    """
    calls = {
        id(node): node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and source.dotted(node.func) == _REGISTER
    }
    for node, qualname in _definitions(source.tree.body, ""):
        decorators = [d for d in node.decorator_list if calls.pop(id(d), None)]
        if not decorators:
            continue
        labels = _labels(decorators[-1])
        problem = labels if isinstance(labels, str) else None
        if len(decorators) > 1:
            problem = f"{qualname} is registered more than once"
        if problem or isinstance(labels, str):
            yield _broken(source, decorators[0], package, problem or "")
            continue
        yield _entry(library, source, node, qualname, labels, package)
    for call in calls.values():
        reason = "register(...) must decorate a class or function at module level"
        yield _broken(source, call, package, reason)


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[Definition, str]]:
    """Yield what an import defines, classes inside classes too, with qualified names."""
    for statement in module_level(body):
        if isinstance(statement, Definition):
            yield statement, prefix + statement.name
        if isinstance(statement, ast.ClassDef):
            yield from _definitions(statement.body, f"{prefix}{statement.name}.")


def _labels(call: ast.expr) -> tuple[str, str] | str:
    """Return kind and name of ``register(kind, name)``, or what is wrong with them."""
    assert isinstance(call, ast.Call)
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
