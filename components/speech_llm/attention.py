"""Which implementation of attention a speech LLM runs with, and why."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from core.errors import ConfigError

Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]


CAPABILITY = (8, 0)
"""Least compute capability of CUDA devices that FlashAttention 2 has kernels for."""


class AttentionChoice(NamedTuple):
    """An implementation by transformers' name, and the reason for it."""

    name: str
    reason: str


def choose_attention(asked: Attention, *, dtype: torch.dtype) -> AttentionChoice:
    """Return what to load the model with.

    ``auto`` takes FlashAttention 2 where it is installed and can be used, else PyTorch's own.

    Transformers must be installed where there is a CUDA device.

    Raises:
        ConfigError: FlashAttention 2 was asked for by name and cannot run here.
    """
    if asked in ("sdpa", "eager"):
        return AttentionChoice(asked, "as configured")
    obstacle = _flash_obstacle(dtype)
    if asked == "flash_attention_2":
        if obstacle:
            raise ConfigError(
                f"attention=flash_attention_2 cannot run: {obstacle}; attention=auto takes sdpa"
            )
        return AttentionChoice(asked, "as configured")
    if obstacle:
        return AttentionChoice("sdpa", f"no FlashAttention 2: {obstacle}")
    return AttentionChoice("flash_attention_2", "installed, the card and half precision allow it")


def _flash_obstacle(dtype: torch.dtype) -> str | None:
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it computes in half precision and the model in {str(dtype).removeprefix('torch.')}"
    major, minor = torch.cuda.get_device_capability()
    if (major, minor) < CAPABILITY:
        least = ".".join(map(str, CAPABILITY))
        return f"it needs compute capability {least} (Ampere), and this card has {major}.{minor}"
    from transformers.utils import is_flash_attn_2_available

    if not is_flash_attn_2_available():
        return "the package 'flash-attn' is not installed, or older than transformers takes"
    return None
