from __future__ import annotations

from pathlib import Path

import pytest

from core.catalog import index
from core.catalog.usage import usages


def uses(root: Path, text: str) -> list[int]:
    folder = root / "experiments"
    folder.mkdir()
    (folder / "stage.py").write_text(text)
    found, broken = usages(index().find("scheduler", "noam"), root=root)
    assert not broken
    assert all(use.file == folder / "stage.py" for use in found)
    return [use.line for use in found]


@pytest.mark.parametrize(
    "text",
    [
        "from components.schedulers.noam import Noam\nf(Noam)\n",
        "from components.schedulers.noam import Noam as N\nx = N\n",
        "from components.schedulers import noam\nf(noam.Noam, d=1)\n",
        "import components.schedulers.noam\nf(components.schedulers.noam.Noam)\n",
        "import components.schedulers.noam as n\nf(n.Noam)\n",
        "def experiment():\n    f(Noam)\n    from components.schedulers.noam import Noam\n",
    ],
)
def test_use_is_found_under_every_import(tmp_path: Path, text: str) -> None:
    assert uses(tmp_path, text) == [2]


@pytest.mark.parametrize(
    "text",
    [
        "from components.schedulers.noam import Noam\n",
        "from components.schedulers.cosine import Cosine\nf(Cosine)\n",
        "class Noam: ...\nf(Noam)\n",
        "'components.schedulers.noam.Noam'\n",
        "",
    ],
)
def test_what_is_not_used_is_not_counted(tmp_path: Path, text: str) -> None:
    assert uses(tmp_path, text) == []


def test_line_is_that_of_the_first_use(tmp_path: Path) -> None:
    text = "from components.schedulers.noam import Noam\n\ndef f():\n    return Noam\n\nx = Noam\n"
    assert uses(tmp_path, text) == [4]


def test_experiment_that_does_not_parse_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "half.py").write_text("x = 1\ndef f(:\n")
    found, broken = usages(index().find("scheduler", "noam"), root=tmp_path)
    assert found == []
    assert [item.where for item in broken] == [f"{folder / 'half.py'}:2"]
