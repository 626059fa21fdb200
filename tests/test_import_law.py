"""Imports go one way, and nothing optional is needed to import the core."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

OURS = ("core", "components", "experiments", "kernels", "benchmarks", "tests")

ALLOWED = {
    "kernels": {"kernels"},
    "core": {"core"},
    "components": {"components", "core", "kernels"},
    "experiments": {"experiments", "components", "core", "kernels"},
}

OPTIONAL = (
    "aim",
    "bitsandbytes",
    "datasets",
    "espeakng_loader",
    "matplotlib",
    "peft",
    "transformers",
)


def imports(path: Path, *, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Yield line and full name of each import, those inside functions included."""
    package = path.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield node.lineno, ".".join([*base, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and _is_dynamic(node):
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield node.lineno, argument.value


def _is_dynamic(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("__import__", "import_module", "importlib.import_module")


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(folder: str) -> None:
    forbidden = set(OURS) - ALLOWED[folder]
    against = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in imports(path)
        if name.partition(".")[0] in forbidden
    ]
    assert against == []


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "core" / "file.py"
    path.parent.mkdir()
    path.write_text(
        "import components.a as x\n"
        "def f():\n"
        "    from components import b\n"
        "from ..components import c\n"
        "from . import d\n"
        "importlib.import_module('components.e')\n"
        "'import components.in_a_string'\n"
    )
    assert sorted(imports(path, root=tmp_path)) == [
        (1, "components.a"),
        (3, "components"),
        (4, "components"),
        (5, "core"),
        (6, "components.e"),
    ]


def test_core_imports_without_any_optional_package() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "core").rglob("*.py"))
    ]
    assert "core.registry" in modules
    script = (
        "import importlib, sys\n"
        f"for name in {OPTIONAL!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "ours = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not ours & {'components', 'experiments', 'kernels'}, ours\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
