"""A tiny base model, and tasks that adapt it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from components.speech_llm.base import Precision
from components.speech_llm.lora import LoRA
from components.speech_llm.quantization import Quantization
from components.speech_llm.tiny import write_tiny
from components.tasks.speech_adapter import SpeechAdapterTask
from tests.fixtures.adapters import adapter_task, heard, train

Make = Callable[..., SpeechAdapterTask]


class Texts(NamedTuple):
    """Transcripts without and with the adapter."""

    alone: list[str]
    adapted: list[str]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("base") / "tiny", hidden=32, layers=1)


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    """Return what makes a task with a fresh adapter, or with one that was trained."""

    def made(
        *,
        folder: Path = base,
        trained: bool = False,
        lora: LoRA | None = None,
        quantization: Quantization = "none",
        dtype: Precision = "float32",
    ) -> SpeechAdapterTask:
        task = adapter_task(
            folder,
            assets=tmp_path / "assets",
            lora=lora,
            quantization=quantization,
            dtype=dtype,
        )
        if trained:
            train(task)
        return task

    return made


@pytest.fixture(scope="session")
def texts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """What the base alone hears, and the base with its adapter."""
    task = adapter_task(base, assets=tmp_path_factory.mktemp("assets"))
    alone = heard(task)
    train(task)
    adapted = heard(task)
    assert alone != adapted
    return Texts(alone=alone, adapted=adapted)
