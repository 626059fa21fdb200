from __future__ import annotations

import importlib
import inspect
import textwrap
import warnings
from pathlib import Path

import pytest

from core.catalog import FIRST_PARTY, Broken, Catalog, Entry, build_catalog, index
from core.catalog.packages import Package, first_party, plugins
from core.errors import RegistryError
from core.registry import identify
from tests.fixtures.plugins import TOY_PLUGIN, declare_plugin

OPTIONAL = {"aim", "bitsandbytes", "datasets", "matplotlib", "peft", "transformers"}


def first_party_entries() -> list[Entry]:
    return [entry for entry in index().entries if entry.package == FIRST_PARTY]


def scan(tmp_path: Path, **files: str) -> Catalog:
    """Write a package ``pack`` with one file for each keyword and read it."""
    folder = tmp_path / "pack"
    folder.mkdir()
    for name, text in files.items():
        header = "" if name == "__init__" else "from core.registry import register\n"
        (folder / f"{name}.py").write_text(header + textwrap.dedent(text))
    return build_catalog([Package(module="pack", folders=(tmp_path,), label="pack", where="here")])


def only(catalog: Catalog) -> Entry:
    assert not catalog.broken
    (entry,) = catalog.entries
    return entry


# ------------------------------------------------------------------------------- this framework


def test_static_index_equals_what_importing_everything_registers() -> None:
    registered = set()
    missing: dict[str, str] = {}
    for package in first_party():
        for _, name in package.files():
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                missing[name] = (error.name or str(error)).partition(".")[0]
                continue
            for value in vars(module).values():
                label = identify(value) if getattr(value, "__module__", "") == name else None
                if label:
                    registered.add((*label, name, value.__qualname__))
    assert set(missing.values()) <= OPTIONAL, missing
    if missing:
        warnings.warn(f"not compared, for want of a package: {missing}", stacklevel=1)
    indexed = {(e.kind, e.name, e.module, e.qualname) for e in first_party_entries()}
    assert {label for label in indexed if label[2] not in missing} == registered
    assert registered


def test_nothing_of_ours_is_broken() -> None:
    assert [str(item) for item in index().broken if item.package == FIRST_PARTY] == []


@pytest.mark.parametrize("entry", first_party_entries(), ids=lambda entry: entry.path)
def test_parameters_equal_the_signature_at_run_time(entry: Entry) -> None:
    component = getattr(importlib.import_module(entry.module), entry.qualname)
    actual = inspect.signature(component).parameters.values()
    if not entry.parameters and any(p.kind is p.VAR_KEYWORD for p in actual):
        assert component.__init__.__module__.partition(".")[0] not in ("components", "core")
        return
    styles = {
        inspect.Parameter.KEYWORD_ONLY: "keyword",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.VAR_POSITIONAL: "var-positional",
        inspect.Parameter.VAR_KEYWORD: "var-keyword",
    }
    expected = [(p.name, styles[p.kind], p.default is not p.empty) for p in actual]
    assert [(p.name, p.style, p.default is not None) for p in entry.parameters] == expected


@pytest.mark.parametrize("entry", first_party_entries(), ids=lambda entry: entry.path)
def test_every_component_says_what_it_and_its_parameters_are(entry: Entry) -> None:
    assert entry.summary
    assert [p.name for p in entry.parameters if not p.doc] == []
    assert [p.name for p in entry.parameters if not p.annotation] == []
    assert [p.name for p in entry.parameters if p.style != "keyword"] == []


def test_entry_gives_the_line_of_the_class() -> None:
    for entry in first_party_entries():
        line = entry.file.read_text().splitlines()[entry.line - 1]
        assert line.startswith((f"class {entry.qualname}", f"def {entry.qualname}"))


# ------------------------------------------------------------------------------------ signatures


def test_constructor_with_docs(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            thing='''
            @register("encoder", "thing")
            class Thing:
                """Do a thing.

                In two
                paragraphs.

                Args:
                    dim: width, which
                        goes on here.
                    names (list): of things: several.
                    low, high: bounds.

                Raises:
                    ValueError: never.
                """

                def __init__(self, dim: int, *, names: "list[str] | None" = None,
                             low: float = -1.5, high=3) -> None: ...
            ''',
        )
    )
    assert entry.path == "encoder/thing"
    assert (entry.module, entry.qualname, entry.line) == ("pack.thing", "Thing", 4)
    assert entry.summary == "Do a thing."
    assert "paragraphs." in entry.doc
    assert entry.signature == (
        "(dim: int, *, names: 'list[str] | None' = None, low: float = -1.5, high=3)"
    )
    assert [p.doc for p in entry.parameters] == [
        "width, which goes on here.",
        "of things: several.",
        "bounds.",
        "bounds.",
    ]
    assert [p.required for p in entry.parameters] == [True, False, False, False]


def test_function_with_every_style_of_parameter(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            made="""
            @register("loss", "made")
            def made(a, /, b=1, *rest, c: int, **more): ...
            """,
        )
    )
    assert entry.signature == "(a, b=1, *rest, c: int, **more)"
    assert [p.style for p in entry.parameters] == [
        "positional",
        "positional",
        "var-positional",
        "keyword",
        "var-keyword",
    ]


def test_dataclass_with_inherited_fields(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            base='''
            from dataclasses import dataclass, field
            from typing import ClassVar

            @dataclass(kw_only=True)
            class Base:
                """A base.

                Args:
                    rate: of the base.
                    size: of the base.
                """
                version: ClassVar[int] = 1
                rate: float
                size: int = 1
                hidden: int = field(default=0, init=False)
            ''',
            child='''
            import dataclasses
            from .base import Base

            @register("scheduler", "child")
            @dataclasses.dataclass(kw_only=True)
            class Child(Base):
                """A child.

                Args:
                    size: of the child.
                """
                size: int = 2
                names: list[str] = dataclasses.field(default_factory=list)
                """Under the field."""
            ''',
        )
    )
    assert entry.signature == "(*, rate: float, size: int = 2, names: list[str] = list())"
    assert [p.doc for p in entry.parameters] == [
        "of the base.",
        "of the child.",
        "Under the field.",
    ]


def test_constructor_inherited_through_a_re_export(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            __init__="from pack.parent import Parent as Renamed\n",
            parent='''
            class Parent:
                """A parent.

                Args:
                    width: from the parent.
                """
                def __init__(self, *, width: int = 3) -> None: ...
            ''',
            child="""
            import pack
            @register("head", "child")
            class Child(pack.Renamed): ...
            """,
        )
    )
    assert entry.signature == "(*, width: int = 3)"
    assert entry.parameters[0].doc == "from the parent."


def test_bases_that_go_round_in_a_circle_do_not_hang(tmp_path: Path) -> None:
    catalog = scan(
        tmp_path,
        left="""
        from pack.right import Right
        class Left(Right): ...
        """,
        right="""
        from pack.left import Left
        @register("head", "round")
        class Right(Left): ...
        """,
    )
    assert only(catalog).parameters == ()


def test_named_choices_are_written_out(tmp_path: Path) -> None:
    entry = only(
        scan(
            tmp_path,
            norms="""
            from typing import Literal
            Norm = Literal["batch", "layer"]
            """,
            thing="""
            from pack.norms import Norm
            @register("encoder", "thing")
            class Thing:
                def __init__(self, *, norm: Norm | None = None, other: Other = 1) -> None: ...
            """,
        )
    )
    assert entry.signature == (
        "(*, norm: Literal['batch', 'layer'] | None = None, other: Other = 1)"
    )


@pytest.mark.parametrize(
    ("imported", "decorator"),
    [
        ("from core.registry import register as add", "add"),
        ("from core import registry", "registry.register"),
        ("import core.registry", "core.registry.register"),
        ("import core.registry as r", "r.register"),
    ],
)
def test_register_is_known_under_every_import(
    tmp_path: Path, imported: str, decorator: str
) -> None:
    text = f"{imported}\n@{decorator}(kind='head', name='x')\nclass X: ...\n"
    assert only(scan(tmp_path, thing=text)).path == "head/x"


def test_other_functions_named_register_are_none_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "a.py").write_text("import atexit  # registry\n@atexit.register\ndef f(): ...\n")
    (folder / "b.py").write_text("from lib.registry import register\n@register(1)\nclass C: ...\n")
    package = Package(module="pack", folders=(tmp_path,), label="pack", where="here")
    assert build_catalog([package]) == Catalog(())


def test_registration_in_a_branch_and_inside_a_class_is_found(tmp_path: Path) -> None:
    catalog = scan(
        tmp_path,
        thing="""
        try:
            @register("head", "tried")
            class Tried: ...
        except ImportError:
            pass
        class Outer:
            @register("head", "nested")
            class Inner: ...
        """,
    )
    assert [(e.name, e.qualname) for e in catalog.entries] == [
        ("nested", "Outer.Inner"),
        ("tried", "Tried"),
    ]


# ---------------------------------------------------------------------------------------- broken


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("NAME = 'x'\n@register('head', NAME)\nclass X: ...", 3, "must be string literals"),
        ("@register('head', 3)\nclass X: ...", 2, "name must be a string"),
        ("@register('Head', 'x')\nclass X: ...", 2, "kind must be a string of a-z"),
        ("@register('head')\nclass X: ...", 2, "expected register(kind, name)"),
        ("@register(*LABEL)\nclass X: ...", 2, "expected register(kind, name)"),
        ("register('head', 'x')(object)", 2, "must decorate a class or function"),
        ("def f():\n    @register('head', 'x')\n    class X: ...", 3, "at module level"),
        ("@register('a', 'x')\n@register('b', 'x')\nclass X: ...", 2, "more than once"),
        ("class X(:", 2, "SyntaxError"),
    ],
)
def test_what_cannot_be_indexed_is_reported_with_its_line(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    catalog = scan(tmp_path, thing=text, fine="@register('head', 'fine')\nclass Fine: ...\n")
    assert catalog.names("head") == ("fine",)
    (broken,) = catalog.broken
    assert broken.where == f"{tmp_path / 'pack' / 'thing.py'}:{line}"
    assert reason in broken.reason


def test_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    catalog = scan(tmp_path, fine="@register('head', 'fine')\nclass Fine: ...\n")
    (tmp_path / "pack" / "noise.py").write_bytes(b"registry\xff\xfe\x00")
    package = Package(module="pack", folders=(tmp_path,), label="pack", where="here")
    again = build_catalog([package])
    assert again.entries == catalog.entries
    assert [broken.where for broken in again.broken] == [str(tmp_path / "pack" / "noise.py")]


def test_duplicate_is_listed_and_fatal_only_when_used(tmp_path: Path) -> None:
    catalog = scan(
        tmp_path,
        one="@register('head', 'same')\nclass One: ...\n",
        two="@register('head', 'same')\nclass Two: ...\n",
        fine="@register('head', 'fine')\nclass Fine: ...\n",
    )
    places = [f"{tmp_path / 'pack' / name}.py:3" for name in ("one", "two")]
    (broken,) = catalog.broken
    assert broken.where == places[1]
    assert places[0] in broken.reason
    assert catalog.names("head") == ("fine", "same")
    assert catalog.counts() == {"head": 2}
    assert catalog.find("head", "fine").qualname == "Fine"
    with pytest.raises(RegistryError) as caught:
        catalog.find("head", "same")
    assert all(place in str(caught.value) for place in places)


def test_unknown_kind_has_no_names_and_cannot_be_found() -> None:
    catalog = Catalog((), (Broken(package="p", where="w", reason="r"),))
    assert catalog.names("head") == ()
    with pytest.raises(RegistryError, match=r"(?s)unknown kind 'head'.*w \[p\]: r"):
        catalog.find("head", "x")


# --------------------------------------------------------------------------------------- plugins


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def found(label: str) -> list[Package | Broken]:
    return [p for p in plugins() if (p.package if isinstance(p, Broken) else p.label) == label]


def test_plugin_is_read_and_not_imported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOY_PLUGIN))
    declare_plugin(site, distribution="sori-toy-plugin", module="sori_toy_plugin")
    entry = only(build_catalog(found("sori-toy-plugin")))
    assert (entry.path, entry.package) == ("encoder/toy_mean_pool", "sori-toy-plugin")
    assert entry.signature == "(*, dim: int = 16, stride: int = 4)"


@pytest.mark.parametrize("layout", ["module", "subpackage", "namespace"])
def test_plugin_may_be_a_module_or_lie_deep_in_a_package(site: Path, layout: str) -> None:
    folder = {"module": site, "subpackage": site / "acme" / "parts"}.get(layout, site / "space")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "acme_part.py").write_text(
        "raise SystemExit('imported')\n"
        "from core.registry import register\n@register('head', 'acme')\nclass Acme: ...\n"
    )
    if layout == "subpackage":
        (site / "acme" / "__init__.py").write_text("raise SystemExit('imported')\n")
        (folder / "__init__.py").touch()
    module = {"module": "acme_part", "subpackage": "acme.parts"}.get(layout, "space")
    declare_plugin(site, distribution="acme", module=module)
    entry = only(build_catalog(found("acme")))
    assert (
        entry.module
        == {
            "module": "acme_part",
            "subpackage": "acme.parts.acme_part",
            "namespace": "space.acme_part",
        }[layout]
    )


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("not_installed_anywhere", "no module named 'not_installed_anywhere' is installed"),
        ("sori_toy_plugin.gone", "no source of 'sori_toy_plugin.gone' in"),
        ("math", "'math' has no Python source"),
    ],
)
def test_plugin_without_source_is_broken(
    site: Path, monkeypatch: pytest.MonkeyPatch, module: str, reason: str
) -> None:
    monkeypatch.syspath_prepend(str(TOY_PLUGIN))
    declare_plugin(site, distribution="bad-plugin", module=module)
    (broken,) = found("bad-plugin")
    assert isinstance(broken, Broken)
    assert broken.where == f"entry point bad-plugin = {module}"
    assert reason in broken.reason


def test_two_entry_points_to_the_same_files_count_once(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOY_PLUGIN))
    for distribution in ("toy-a", "toy-b"):
        declare_plugin(site, distribution=distribution, module="sori_toy_plugin")
    only(build_catalog([*found("toy-a"), *found("toy-b")]))
