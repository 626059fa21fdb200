"""Constructor parameters read from a syntax tree, inherited ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from core.catalog.docstring import argument_docs
from core.catalog.records import Parameter, ParameterStyle
from core.catalog.source import Definition, Library, Source

_DATACLASS = ("dataclasses.dataclass",)


def parameters(library: Library, source: Source, node: Definition) -> tuple[Parameter, ...]:
    """Return what a call of a class or function takes.

    Base classes are followed through the files of ``library``; a base outside of it (such as
    ``torch.nn.Module``) is taken to add no parameter.
    """
    if not isinstance(node, ast.ClassDef):
        return _documented(tuple(_function_parameters(node)), docstring(node))
    found: tuple[Parameter, ...] = ()
    docs = ""
    for owner, cls in _lineage(library, source, node):
        if (init := _init(cls)) is not None:
            found = tuple(_function_parameters(init))[1:]
            docs = docstring(init) + "\n\n" + docstring(cls)
        elif (options := _dataclass_options(owner, cls)) is not None:
            found = tuple(_fields(library, owner, cls, options).values())
            docs = docstring(cls)
        else:
            continue
        found = _documented(found, docs)
        break
    return _documented(found, docstring(node))


def docstring(node: Definition) -> str:
    """Return the dedented docstring, empty if there is none."""
    return ast.get_docstring(node) or ""


def _lineage(
    library: Library, source: Source, node: ast.ClassDef
) -> Iterator[tuple[Source, ast.ClassDef]]:
    """Yield a class and its known bases, depth first."""
    yield source, node
    for base in node.bases:
        target = base.value if isinstance(base, ast.Subscript) else base
        name = source.dotted(target)
        found = library.definition(name) if name else None
        if found and isinstance(found[1], ast.ClassDef) and found[1] is not node:
            yield from _lineage(library, found[0], found[1])


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return statement
    return None


def _function_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Parameter]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    for argument, default in zip(positional, [*padding, *arguments.defaults], strict=True):
        yield _parameter(argument, default, "positional")
    if arguments.vararg:
        yield _parameter(arguments.vararg, None, "var-positional")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default, "keyword")
    if arguments.kwarg:
        yield _parameter(arguments.kwarg, None, "var-keyword")


def _parameter(argument: ast.arg, default: ast.expr | None, style: ParameterStyle) -> Parameter:
    return Parameter(
        name=argument.arg,
        annotation=ast.unparse(argument.annotation) if argument.annotation else "",
        default=None if default is None else ast.unparse(default),
        style=style,
    )


def _dataclass_options(source: Source, node: ast.ClassDef) -> dict[str, ast.expr] | None:
    """Return the arguments of ``@dataclass(...)``; None if the class is not a dataclass."""
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if source.dotted(call.func if call else decorator) in _DATACLASS:
            return {k.arg: k.value for k in (call.keywords if call else []) if k.arg}
    return None


def _fields(
    library: Library, source: Source, node: ast.ClassDef, options: dict[str, ast.expr]
) -> dict[str, Parameter]:
    """Return the constructor arguments of a dataclass, those of its bases first."""
    found: dict[str, Parameter] = {}
    for owner, base in reversed(list(_lineage(library, source, node))[1:]):
        if (inherited := _dataclass_options(owner, base)) is not None:
            found.update(_own_fields(owner, base, inherited))
    found.update(_own_fields(source, node, options))
    in_order = [p for p in found.values() if p.style == "positional"]
    in_order += [p for p in found.values() if p.style != "positional"]
    return {parameter.name: parameter for parameter in in_order}


def _own_fields(
    source: Source, node: ast.ClassDef, options: dict[str, ast.expr]
) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    keyword_only = _is_true(options.get("kw_only"))
    for position, statement in enumerate(node.body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        annotation = ast.unparse(statement.annotation)
        if annotation.rpartition(".")[2] == "KW_ONLY":
            keyword_only = True
            continue
        settings = _field_call(source, statement.value)
        if "ClassVar" in annotation or _is_false((settings or {}).get("init")):
            continue
        only = keyword_only or _is_true((settings or {}).get("kw_only"))
        name = statement.target.id
        found[name] = Parameter(
            name=name,
            annotation=annotation,
            default=_default(statement.value, settings),
            doc=_text_below(node.body, position),
            style="keyword" if only else "positional",
        )
    return found


def _field_call(source: Source, value: ast.expr | None) -> dict[str, ast.expr] | None:
    if isinstance(value, ast.Call) and source.dotted(value.func) == "dataclasses.field":
        return {k.arg: k.value for k in value.keywords if k.arg}
    return None


def _default(value: ast.expr | None, settings: dict[str, ast.expr] | None) -> str | None:
    if settings is None:
        return None if value is None else ast.unparse(value)
    if "default" in settings:
        return ast.unparse(settings["default"])
    if "default_factory" in settings:
        return f"{ast.unparse(settings['default_factory'])}()"
    return None


def _text_below(body: list[ast.stmt], position: int) -> str:
    """Return the string literal that stands under a field, on one line."""
    below = body[position + 1] if position + 1 < len(body) else None
    if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
        return " ".join(str(below.value.value).split()) if below.value.value is not ... else ""
    return ""


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _documented(found: tuple[Parameter, ...], doc: str) -> tuple[Parameter, ...]:
    docs = argument_docs(doc)
    return tuple(replace(p, doc=docs.get(p.name, p.doc)) for p in found)
