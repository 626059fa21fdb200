"""The tiny base, and models on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.features.whisper import WhisperFeatures
from components.speech_llm.encoding import FrozenEncoder
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from core.contracts import RunContext

Maker = Callable[..., SpeechLLM]


@pytest.fixture(scope="package", autouse=True)
def offline() -> Iterator[None]:
    """Never ask the hub, whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny Voxtral."""
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def make(tiny: Path, tmp_path: Path) -> Maker:
    """Return a model whose adapter does something, as after training."""

    def made(*, adapted: bool = True, assets: Path | None = None, **settings: Any) -> SpeechLLM:
        torch.manual_seed(3)
        chosen = {"base": str(tiny), "lora": LoRA(dropout=0.0), "dtype": "float32", **settings}
        chosen.setdefault("quantization", "none")
        chosen.setdefault("max_new_tokens", 8)
        model = SpeechLLM(**chosen)
        model.setup(RunContext(assets=assets or tmp_path / "assets"))
        for name, parameter in model.named_parameters():
            if adapted and "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
        return model

    return made


@pytest.fixture(scope="package")
def audio() -> tuple[Tensor, ...]:
    """Recordings of 2 s and of 40 s, which are two chunks; noise on the grid of 16 bits."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for seconds in (2.0, 40.0):
        noise = 0.1 * torch.randn(int(seconds * 16_000), generator=generator)
        found.append((noise * 32_768).round().clamp(-32_768, 32_767) / 32_768)
    return tuple(found)


@pytest.fixture(scope="package")
def features(audio: tuple[Tensor, ...]) -> Tensor:
    """(3, 128, 3000) features of the recordings."""
    extract = WhisperFeatures()
    return torch.cat([extract(each) for each in audio])


@pytest.fixture(scope="package")
def encoded(tiny: Path, features: Tensor) -> Tensor:
    """(3, 375, 256) rows of the encoder in float32."""
    return FrozenEncoder(base=str(tiny), quantization="none", dtype="float32")(features)


CHUNKS = (1, 2)
TEXTS = ("안녕하세요", "good day")
