"""How far the logits of a merged model are from those of the base with its adapter."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.speech_llm.families import FRAMES
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from core.contracts import RunContext

SECONDS = 30
BINS = 128
TEXTS = ("아침에 약을 먹고 나서 어지러웠어요", "my chest hurts when I breathe in")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitDifference:
    """Differences of logits over the tokens of two texts.

    Args:
        largest: between merged and adapted.
        mean: between merged and adapted, of magnitudes.
        effect: largest between adapted and base: what the adapter does.
        agreeing: positions whose most likely token is the same, merged and adapted.
        positions: compared.
        form: in which all three computed.
    """

    largest: float
    mean: float
    effect: float
    agreeing: int
    positions: int
    form: str

    def lines(self) -> list[str]:
        """Say it in two lines."""
        return [
            f"logits of merged and adapted differ by {self.largest:.3g} at most, {self.mean:.3g} "
            f"on average ({self.form}); the adapter moves them by up to {self.effect:.3g}",
            f"the most likely token is the same at {self.agreeing} of {self.positions} positions",
        ]


def measure(llm: SpeechLLM, merged: Path, *, language: str | None) -> LogitDifference:
    """Compare a model with a folder that its adapter was merged into, which is loaded beside it.

    Both are in memory then. They compute in the same quantisation and dtype, on the model's device
    and on drawn features: what is measured is the rounding of the merged weights, and that the
    folder opens.

    Args:
        llm: with its base and adapter loaded.
        merged: folder.
        language: of the prompt.
    """
    training = llm.training
    llm.eval()
    adapted = _logits(llm, language)
    with llm.unadapted():
        base = _logits(llm, language)
    llm.train(training)
    place = _device(llm)
    other = SpeechLLM(
        base=str(merged),
        lora=LoRA(rank=1, dropout=0.0),
        quantization=llm.quantization,
        attention=llm.attention,
        dtype=llm.dtype,
    )
    with tempfile.TemporaryDirectory() as assets, torch.random.fork_rng(devices=[]):
        other.setup(RunContext(assets=Path(assets)))
    found = _logits(other.to(place).eval(), language)
    away = (found - adapted).abs()
    return LogitDifference(
        largest=float(away.max()),
        mean=float(away.mean()),
        effect=float((adapted - base).abs().max()),
        agreeing=int((found.argmax(-1) == adapted.argmax(-1)).sum()),
        positions=len(found),
        form=f"{llm.dtype}, {'nf4' if llm.quantization == 'nf4' else 'not quantised'}",
    )


def _logits(llm: SpeechLLM, language: str | None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(TEXTS), BINS, FRAMES, generator=generator).clamp(-1.5, 1.5)
    chunks, samples = [1] * len(TEXTS), [SECONDS * 16_000] * len(TEXTS)
    encoded = llm.encode(drawn.to(_device(llm)), chunks=chunks, samples=samples)
    return llm.logits(encoded, chunks, TEXTS, language, samples=samples)


def _device(llm: SpeechLLM) -> torch.device:
    return next(llm.parameters()).device
