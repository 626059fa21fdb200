"""A tiny speech LLM with an adapter that changes what it hears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from components.speech_llm.lora import LoRA
from components.speech_llm.quantization import Quantization
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from components.tasks.speech_adapter import SpeechAdapterTask
from components.text.normalizer import TextNormalizer
from core.contracts import FeatureBatch, RunContext


class Texts(NamedTuple):
    """Transcripts without and with the adapter."""

    alone: list[str]
    adapted: list[str]


TOKENS = 6
Make = Callable[..., SpeechAdapterTask]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    """Return what makes a task with a fresh adapter, or with one that was trained."""

    def made(
        *,
        folder: Path = base,
        trained: bool = False,
        lora: LoRA | None = None,
        quantization: Quantization = "none",
    ) -> SpeechAdapterTask:
        task = SpeechAdapterTask(**settings(folder, lora=lora, quantization=quantization))
        task.setup(RunContext(assets=tmp_path / "assets"))
        if trained:
            train(task)
        return task.eval()

    return made


def settings(
    folder: Path, *, lora: LoRA | None = None, quantization: Quantization = "none"
) -> dict[str, Any]:
    """Return the arguments of a task on a base."""
    model = SpeechLLM(
        base=str(folder),
        lora=lora or LoRA(),
        quantization=quantization,
        dtype="float32" if quantization == "none" else "bf16",
        max_new_tokens=TOKENS,
    )
    return {"model": model, "language": "ko", "text": TextNormalizer(kspon="orthographic")}


@pytest.fixture(scope="session")
def texts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """What the base alone hears, and the base with its adapter."""
    task = SpeechAdapterTask(**settings(base))
    task.setup(RunContext(assets=tmp_path_factory.mktemp("assets")))
    alone = heard(task.eval())
    train(task)
    adapted = heard(task)
    assert alone != adapted
    return Texts(alone=alone, adapted=adapted)


def train(task: SpeechAdapterTask, *, seed: int = 1) -> None:
    """Give the adapter weights of a size that changes transcripts."""
    generator = torch.Generator().manual_seed(seed)
    state = task.model.adapter_state()
    task.model.load_adapter_state(
        {name: 0.3 * torch.randn(v.shape, generator=generator) for name, v in state.items()}
    )


def heard(task: SpeechAdapterTask) -> list[str]:
    """Return transcripts of two utterances, one of them of two chunks under one prompt."""
    generator = torch.Generator().manual_seed(5)
    batch = FeatureBatch(
        ids=("a", "b"),
        texts=("", ""),
        chunks=(1, 2),
        samples=torch.tensor([480_000, 700_000]),
        sample_rate=16_000,
        chunk_seconds=30.0,
        features=torch.randn(3, 128, 3000, generator=generator).clamp(-1.5, 1.5),
    )
    return [transcript.text for transcript in task.transcribe(batch)]
