from __future__ import annotations

import pytest
import torch

from components.speech_llm.attention import Attention, choose_attention
from core.errors import ConfigError


@pytest.mark.parametrize("asked", ["sdpa", "eager"])
def test_what_is_asked_for_is_taken(asked: Attention) -> None:
    assert choose_attention(asked, dtype=torch.float32) == (asked, "as configured")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_without_cuda_flash_attention_is_neither_taken_nor_given() -> None:
    name, reason = choose_attention("auto", dtype=torch.bfloat16)
    assert name == "sdpa"
    assert "no CUDA device" in reason
    with pytest.raises(ConfigError, match="there is no CUDA device; attention=auto takes sdpa"):
        choose_attention("flash_attention_2", dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("dtype", "installed", "name", "reason"),
    [
        (torch.bfloat16, True, "flash_attention_2", "installed, CUDA, half precision"),
        (torch.bfloat16, False, "sdpa", "'flash-attn' is not installed"),
        (torch.float32, True, "sdpa", "half precision and the model in float32"),
    ],
)
def test_with_cuda_it_is_taken_where_it_can_run(
    dtype: torch.dtype,
    installed: bool,
    name: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    found = object() if installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda _: found)
    choice = choose_attention("auto", dtype=dtype)
    assert choice.name == name
    assert reason in choice.reason
