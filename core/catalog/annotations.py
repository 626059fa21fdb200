"""Source text of type annotations, with named choices written out."""

from __future__ import annotations

import ast
import copy

from core.catalog.source import Library, Source


def annotation_text(library: Library, source: Source, node: ast.expr | None) -> str:
    """Return the text of an annotation, empty for none.

    A name that stands for ``Literal[...]`` is replaced by it, so that a reader sees the choices.
    """
    if node is None:
        return ""
    expand = _Expand(library, source)
    names = [part for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Attribute))]
    if any(expand.literal(name) for name in names):
        node = expand.visit(copy.deepcopy(node))
    return ast.unparse(node)


class _Expand(ast.NodeTransformer):
    def __init__(self, library: Library, source: Source) -> None:
        self._library = library
        self._source = source

    def literal(self, node: ast.expr) -> ast.expr | None:
        dotted = self._source.dotted(node)
        return self._library.literal(dotted) if dotted and "." in dotted else None

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.literal(node) or node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self.literal(node) or node
