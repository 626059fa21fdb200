from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import catalog
from core.errors import RegistryError
from core.registry import identify, lookup, lookup_path, register
from tests.fixtures.plugins import TOY_PLUGIN, declare_plugin

COMPONENT = '''
from core.registry import register

@register("{kind}", "{name}")
class {cls}:
    """A component."""
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable folder; the catalog is read anew for the test and after it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    catalog.index.cache_clear()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    catalog.index.cache_clear()


def write(site: Path, module: str, **labels: str) -> None:
    (site / f"{module}.py").write_text(COMPONENT.format(**labels))
    importlib.invalidate_caches()


def test_register_returns_the_class_itself() -> None:
    class Plain:
        pass

    assert register("test-registry", "unchanged")(Plain) is Plain


def test_registered_function_is_identified() -> None:
    @register("test-registry", "function")
    def factory() -> int:
        return 3

    assert factory() == 3
    assert identify(factory) == ("test-registry", "function")


def test_identify_knows_a_class_that_was_imported_directly() -> None:
    from components.schedulers.noam import Noam

    assert identify(Noam) == ("scheduler", "noam")


def test_identify_is_none_for_what_is_not_registered() -> None:
    from components.schedulers.noam import Noam

    class Child(Noam):
        pass

    assert identify(Child) is None
    assert identify(Noam(d_model=4, warmup_steps=2)) is None
    assert identify(3) is None
    assert identify(None) is None


def test_duplicate_names_both_places(site: Path) -> None:
    write(site, "dup_first", kind="test-dup", name="same", cls="First")
    write(site, "dup_second", kind="test-dup", name="same", cls="Second")
    importlib.import_module("dup_first")
    with pytest.raises(RegistryError) as caught:
        importlib.import_module("dup_second")
    message = str(caught.value)
    assert "test-dup/same" in message
    assert f"{site / 'dup_first.py'}:4 (dup_first.First)" in message
    assert f"{site / 'dup_second.py'}:4 (dup_second.Second)" in message


def test_reload_replaces_its_own_registration(site: Path) -> None:
    write(site, "again", kind="test-again", name="one", cls="Again")
    module = importlib.import_module("again")
    old = module.Again
    importlib.reload(module)
    assert module.Again is not old
    assert lookup("test-again", "one") is module.Again


def test_reload_with_another_label_forgets_the_old_one(site: Path) -> None:
    write(site, "renamed", kind="test-renamed", name="old", cls="Renamed")
    module = importlib.import_module("renamed")
    write(site, "renamed", kind="test-renamed", name="other", cls="Renamed")
    importlib.reload(module)
    assert identify(module.Renamed) == ("test-renamed", "other")
    with pytest.raises(RegistryError):
        lookup("test-renamed", "old")


def test_one_component_has_one_label() -> None:
    class Twice:
        pass

    register("test-registry", "first")(Twice)
    with pytest.raises(RegistryError, match="already as test-registry/first"):
        register("test-registry", "second")(Twice)


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "white space", 3, None])
def test_labels_that_a_command_line_cannot_hold_are_refused(name: object) -> None:
    with pytest.raises(RegistryError, match=r"test_registry\.py:\d+: name must be"):
        register("encoder", name)  # type: ignore[arg-type]


def test_lookup_imports_one_module_and_no_other(site: Path) -> None:
    for module in ("wanted", "unwanted"):
        (site / "plug").mkdir(exist_ok=True)
        write(site / "plug", module, kind="test-lookup", name=module, cls="Thing")
    declare_plugin(site, distribution="plug-lookup", module="plug")
    found = lookup("test-lookup", "wanted")
    assert identify(found) == ("test-lookup", "wanted")
    assert "plug.wanted" in sys.modules
    assert "plug.unwanted" not in sys.modules


def test_lookup_path_equals_lookup() -> None:
    assert lookup_path("scheduler/noam") is lookup("scheduler", "noam")


@pytest.mark.parametrize("path", ["scheduler", "scheduler/", "/noam", ""])
def test_lookup_path_says_what_form_it_expects(path: str) -> None:
    with pytest.raises(RegistryError, match="expected kind/name"):
        lookup_path(path)


def test_unknown_kind_and_name_suggest_the_nearest() -> None:
    with pytest.raises(RegistryError, match="unknown kind 'schedular': did you mean 'scheduler'"):
        lookup("schedular", "noam")
    with pytest.raises(RegistryError, match="unknown scheduler 'naom': did you mean 'noam'"):
        lookup("scheduler", "naom")


def test_plugin_that_does_not_import_is_fatal_only_when_used(site: Path) -> None:
    write(site, "needs_missing", kind="test-missing", name="fine", cls="Thing")
    with (site / "needs_missing.py").open("a") as file:
        file.write("import no_such_library_anywhere\n")
    declare_plugin(site, distribution="needs-missing", module="needs_missing")
    assert lookup("scheduler", "noam")
    with pytest.raises(RegistryError) as caught:
        lookup("test-missing", "fine")
    message = str(caught.value)
    assert f"test-missing/fine ({site / 'needs_missing.py'}:5) cannot be imported" in message
    assert "No module named 'no_such_library_anywhere'" in message


def test_unknown_name_points_at_what_could_not_be_read(site: Path) -> None:
    (site / "half_written.py").write_text("from core.registry import register\nclass Broken(:\n")
    declare_plugin(site, distribution="half-written", module="half_written")
    with pytest.raises(RegistryError) as caught:
        lookup("scheduler", "of_a_broken_plugin")
    assert f"{site / 'half_written.py'}:2 [half-written]: SyntaxError" in str(caught.value)


def test_lookup_notices_source_that_registers_nothing_at_run_time(site: Path) -> None:
    (site / "conditional.py").write_text(
        "from core.registry import register\n"
        "if False:\n"
        "    @register('test-conditional', 'never')\n"
        "    class Never: ...\n"
        "class Never: ...\n"
    )
    declare_plugin(site, distribution="conditional", module="conditional")
    with pytest.raises(RegistryError, match=r"importing conditional[.]Never did not register it"):
        lookup("test-conditional", "never")


def test_toy_plugin_is_looked_up_like_any_component(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOY_PLUGIN))
    declare_plugin(site, distribution="sori-toy-plugin", module="sori_toy_plugin")
    encoder = lookup_path("encoder/toy_mean_pool")
    assert encoder.__module__ == "sori_toy_plugin.mean_pool"
    assert catalog.index().find("encoder", "toy_mean_pool").package == "sori-toy-plugin"
