"""Constructor parameters of dataclasses, read from a syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from core.catalog.annotations import annotation_text
from core.catalog.docstring import documented
from core.catalog.records import Parameter
from core.catalog.source import Library, Source

Options = dict[str, ast.expr]


def dataclass_options(source: Source, node: ast.ClassDef) -> Options | None:
    """Return the arguments of ``@dataclass(...)``; None if the class is not a dataclass."""
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if source.dotted(call.func if call else decorator) == "dataclasses.dataclass":
            return _keywords(call) if call else {}
    return None


def field_parameters(library: Library, source: Source, node: ast.ClassDef) -> list[Parameter]:
    """Return the constructor arguments of a dataclass, those of its bases first.

    As in the generated ``__init__``, keyword-only ones come after the others.
    """
    found: dict[str, Parameter] = {}
    for owner, cls in reversed(list(library.lineage(source, node))):
        if (options := dataclass_options(owner, cls)) is not None:
            own = _own_fields(library, owner, cls, options)
            found.update({p.name: p for p in documented(own, ast.get_docstring(cls) or "")})
    return sorted(found.values(), key=lambda parameter: parameter.style == "keyword")


def _own_fields(
    library: Library, source: Source, node: ast.ClassDef, options: Options
) -> Iterator[Parameter]:
    keyword_only = _is(options.get("kw_only"), True)
    for position, statement in enumerate(node.body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        annotation = annotation_text(library, source, statement.annotation)
        if annotation.rpartition(".")[2] == "KW_ONLY":
            keyword_only = True
            continue
        settings = _field_settings(source, statement.value)
        if "ClassVar" in annotation or _is((settings or {}).get("init"), False):
            continue
        only = keyword_only or _is((settings or {}).get("kw_only"), True)
        yield Parameter(
            name=statement.target.id,
            annotation=annotation,
            default=_default(statement.value, settings),
            doc=_text_below(node.body, position),
            style="keyword" if only else "positional",
        )


def _field_settings(source: Source, value: ast.expr | None) -> Options | None:
    if isinstance(value, ast.Call) and source.dotted(value.func) == "dataclasses.field":
        return _keywords(value)
    return None


def _keywords(call: ast.Call) -> Options:
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def _default(value: ast.expr | None, settings: Options | None) -> str | None:
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
    literal = below.value if isinstance(below, ast.Expr) else None
    if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
        return " ".join(literal.value.split())
    return ""


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
