from __future__ import annotations

import pytest

from components.speech_llm.packages import require
from core.errors import ConfigError


def test_what_is_installed_is_not_asked_for() -> None:
    require("transformers", "peft")


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"need peft, which is not installed; pip .*sori\[llm\]"):
        require("peft")
    with pytest.raises(ConfigError, match=r"need bitsandbytes, mistral-common\[audio\], which are"):
        require("bitsandbytes", "mistral_common")
