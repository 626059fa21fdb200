from __future__ import annotations

from core.config.presets import is_preset, preset
from tests.core.config.toy import presets


def test_a_marked_function_is_returned_unchanged() -> None:
    def shrink(config: object) -> None: ...

    assert preset(shrink) is shrink
    assert is_preset(shrink)


def test_only_marked_functions_are_presets() -> None:
    assert is_preset(presets.quick)
    assert not is_preset(presets.helper)
    assert not is_preset("quick")
