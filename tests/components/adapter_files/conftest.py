"""A tiny speech LLM with an adapter that changes what it hears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.speech_llm.lora import LoRA
from components.speech_llm.quantization import Quantization
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from components.tasks.speech_adapter import SpeechAdapterTask
from components.text.normalizer import TextNormalizer
from core.contracts import FeatureBatch, RunContext

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
        task = SpeechAdapterTask(
            model=SpeechLLM(
                base=str(folder),
                lora=lora or LoRA(),
                quantization=quantization,
                dtype="float32" if quantization == "none" else "bf16",
                max_new_tokens=12,
            ),
            language="ko",
            text=TextNormalizer(kspon="orthographic"),
        )
        task.setup(RunContext(assets=tmp_path / "assets"))
        if trained:
            train(task)
        return task.eval()

    return made


def train(task: SpeechAdapterTask, *, seed: int = 1) -> None:
    """Give the adapter weights of a size that changes transcripts."""
    generator = torch.Generator().manual_seed(seed)
    state = task.model.adapter_state()
    task.model.load_adapter_state(
        {name: 0.3 * torch.randn(v.shape, generator=generator) for name, v in state.items()}
    )


def heard(task: SpeechAdapterTask) -> list[str]:
    """Return transcripts of three utterances, one of them of two chunks."""
    generator = torch.Generator().manual_seed(5)
    batch = FeatureBatch(
        ids=("a", "b", "c"),
        texts=("", "", ""),
        chunks=(1, 2, 1),
        samples=torch.tensor([480_000, 700_000, 480_000]),
        sample_rate=16_000,
        chunk_seconds=30.0,
        features=torch.randn(4, 128, 3000, generator=generator).clamp(-1.5, 1.5),
    )
    return [transcript.text for transcript in task.transcribe(batch)]
