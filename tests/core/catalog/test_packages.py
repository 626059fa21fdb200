from __future__ import annotations

from pathlib import Path

import pytest

from core.catalog import Broken, build_catalog
from core.catalog.packages import Package, plugins
from tests.core.catalog.packs import only
from tests.fixtures.plugins import TOY_PLUGIN, declare_plugin


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
