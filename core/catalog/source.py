"""Python files as syntax trees, and names followed from file to file without importing any."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_PARSE_ERRORS = (OSError, SyntaxError, ValueError, RecursionError)


class SourceError(Exception):
    """A file cannot be read as Python; ``line`` is where, 0 if that is not known."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.path = path
        self.line = (error.lineno or 0) if isinstance(error, SyntaxError) else 0
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        super().__init__(f"{type(error).__name__}: {text}")


@dataclass(frozen=True)
class Source:
    """A parsed module.

    Args:
        module: dotted name.
        path: its file.
        tree: its syntax tree.
    """

    module: str
    path: Path
    tree: ast.Module

    @cached_property
    def imports(self) -> dict[str, str]:
        """Names bound by import statements, with what they stand for.

        Imports inside functions count too; a name keeps what the first import gave it.
        """
        bound: dict[str, str] = {}
        for statement in statements(self.tree.body, inside=True):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    top = alias.name.partition(".")[0]
                    bound.setdefault(alias.asname or top, alias.name if alias.asname else top)
            elif isinstance(statement, ast.ImportFrom):
                base = self._import_base(statement)
                for alias in statement.names:
                    bound.setdefault(alias.asname or alias.name, f"{base}.{alias.name}")
        return bound

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Classes and functions at module level."""
        return {
            statement.name: statement
            for statement in statements(self.tree.body, inside=False)
            if isinstance(statement, Definition)
        }

    @cached_property
    def literals(self) -> dict[str, ast.expr]:
        """Types named at module level that are a choice of values: ``Norm = Literal[...]``."""
        found: dict[str, ast.expr] = {}
        for statement in statements(self.tree.body, inside=False):
            if isinstance(statement, ast.Assign):
                target = statement.targets[0]
            elif isinstance(statement, ast.AnnAssign):
                target = statement.target
            else:
                continue
            value = statement.value
            if not isinstance(target, ast.Name) or not isinstance(value, ast.Subscript):
                continue
            if ast.unparse(value.value).rpartition(".")[2] == "Literal":
                found[target.id] = value
        return found

    def dotted(self, expression: ast.expr) -> str | None:
        """Return the full dotted name that an expression such as ``nn.Module`` stands for."""
        parts: list[str] = []
        while isinstance(expression, ast.Attribute):
            parts.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        name = expression.id
        if name in self.imports:
            parts.append(self.imports[name])
        elif name in self.definitions or name in self.literals:
            parts.append(f"{self.module}.{name}")
        else:
            parts.append(name)
        return ".".join(reversed(parts))

    def _import_base(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        package = self.module.split(".")
        drop = statement.level - (self.path.name == "__init__.py")
        base = package[: len(package) - drop] if drop else package
        return ".".join([*base, *([statement.module] if statement.module else [])])


def statements(body: Sequence[ast.AST], *, inside: bool) -> Iterator[ast.stmt]:
    """Yield statements in order, through ``if``, ``try``, ``with`` and loops.

    Args:
        body: where to begin.
        inside: whether to go into functions and classes too.
    """
    for node in body:
        if isinstance(node, ast.stmt):
            yield node
        if inside or not isinstance(node, Definition):
            for name in ("body", "handlers", "cases", "orelse", "finalbody"):
                yield from statements(getattr(node, name, ()), inside=inside)


class Library:
    """Files by module name, read once each.

    Args:
        packages: modules with the folders that hold their top-level part.
    """

    def __init__(self, packages: Iterable[tuple[str, Iterable[Path]]]) -> None:
        self._folders: dict[str, list[Path]] = {}
        for module, folders in packages:
            self._folders.setdefault(module.partition(".")[0], []).extend(folders)
        self._parsed: dict[Path, Source] = {}

    def parse(self, path: Path, module: str) -> Source:
        """Return the syntax tree of a file. Raises SourceError if it is not Python."""
        if path not in self._parsed:
            try:
                tree = ast.parse(path.read_bytes(), filename=str(path))
            except _PARSE_ERRORS as error:
                raise SourceError(path, error) from error
            self._parsed[path] = Source(module, path, tree)
        return self._parsed[path]

    def module(self, name: str) -> Source | None:
        """Return a module by dotted name; None if it is not in this library or not Python."""
        relative = Path(*name.split("."))
        for folder in self._folders.get(name.partition(".")[0], ()):
            for path in (folder / relative / "__init__.py", (folder / relative).with_suffix(".py")):
                if path.is_file():
                    try:
                        return self.parse(path, name)
                    except SourceError:
                        return None
        return None

    def definition(self, dotted: str) -> tuple[Source, Definition] | None:
        """Return the class or function behind a dotted name, through re-exports."""
        for source, name in self._trail(dotted):
            if name in source.definitions:
                return source, source.definitions[name]
        return None

    def literal(self, dotted: str) -> ast.expr | None:
        """Return the ``Literal[...]`` behind a dotted name, through re-exports."""
        found = (source.literals.get(name) for source, name in self._trail(dotted))
        return next((value for value in found if value is not None), None)

    def lineage(self, source: Source, node: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef]]:
        """Yield a class and those of its bases that are in this library, depth first."""
        pending: list[tuple[Source, ast.ClassDef]] = [(source, node)]
        seen: list[ast.ClassDef] = []
        while pending:
            owner, cls = pending.pop()
            if cls in seen:
                continue
            seen.append(cls)
            yield owner, cls
            pending += reversed(list(self._bases(owner, cls)))

    def _bases(self, source: Source, node: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef]]:
        for base in node.bases:
            name = source.dotted(base.value if isinstance(base, ast.Subscript) else base)
            found = self.definition(name) if name else None
            if found and isinstance(found[1], ast.ClassDef):
                yield found[0], found[1]

    def _trail(self, dotted: str) -> Iterator[tuple[Source, str]]:
        """Yield each module that a dotted name leads through, with the name it has there."""
        seen: set[str] = set()
        while dotted not in seen:
            seen.add(dotted)
            module, _, name = dotted.rpartition(".")
            source = self.module(module) if module else None
            if source is None:
                return
            yield source, name
            dotted = source.imports.get(name, dotted)
