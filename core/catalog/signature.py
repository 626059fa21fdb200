"""Parameters of registered classes and functions, read from a syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from core.catalog.annotations import annotation_text
from core.catalog.docstring import documented
from core.catalog.fields import dataclass_options, field_parameters
from core.catalog.records import Parameter, ParameterStyle
from core.catalog.source import Definition, Library, Source

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def parameters(library: Library, source: Source, node: Definition) -> tuple[Parameter, ...]:
    """Return what a call of a class or function takes, without ``self``.

    Base classes are followed through the files of ``library``; a base outside of it (such as
    ``torch.nn.Module``) is taken to add no parameter.
    """
    if isinstance(node, ast.ClassDef):
        inherited = _constructor(library, source, node)
        return tuple(documented(inherited, docstring(node)))
    return tuple(documented(_function_parameters(library, source, node), docstring(node)))


def docstring(node: Definition) -> str:
    """Return the dedented docstring, empty if there is none."""
    return ast.get_docstring(node) or ""


def _constructor(library: Library, source: Source, node: ast.ClassDef) -> list[Parameter]:
    for owner, cls in library.lineage(source, node):
        if (init := _init(cls)) is not None:
            found = list(_function_parameters(library, owner, init))[1:]
            return documented(documented(found, docstring(cls)), docstring(init))
        if dataclass_options(owner, cls) is not None:
            return field_parameters(library, owner, cls)
    return []


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return statement
    return None


def _function_parameters(library: Library, source: Source, node: _Function) -> Iterator[Parameter]:
    def parameter(argument: ast.arg, default: ast.expr | None, style: ParameterStyle) -> Parameter:
        return Parameter(
            name=argument.arg,
            annotation=annotation_text(library, source, argument.annotation),
            default=None if default is None else ast.unparse(default),
            style=style,
        )

    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    for argument, default in zip(positional, [*padding, *arguments.defaults], strict=True):
        yield parameter(argument, default, "positional")
    if arguments.vararg:
        yield parameter(arguments.vararg, None, "var-positional")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield parameter(argument, default, "keyword")
    if arguments.kwarg:
        yield parameter(arguments.kwarg, None, "var-keyword")
