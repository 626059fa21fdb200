from __future__ import annotations

import re

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
    ("dtype", "installed", "capability", "name", "reason"),
    [
        (torch.bfloat16, True, (8, 0), "flash_attention_2", "half precision allow it"),
        (torch.bfloat16, True, (9, 0), "flash_attention_2", "half precision allow it"),
        (torch.bfloat16, True, (7, 5), "sdpa", "needs compute capability 8.0 .* has 7.5"),
        (torch.bfloat16, False, (8, 6), "sdpa", "'flash-attn' is not installed"),
        (torch.float32, True, (8, 0), "sdpa", "half precision and the model in float32"),
    ],
)
def test_with_cuda_it_is_taken_where_it_can_run(
    dtype: torch.dtype,
    installed: bool,
    capability: tuple[int, int],
    name: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: installed)
    choice = choose_attention("auto", dtype=dtype)
    assert choice.name == name
    assert re.search(reason, choice.reason)
    if name == "sdpa":
        with pytest.raises(ConfigError, match=reason):
            choose_attention("flash_attention_2", dtype=dtype)
