"""The toy experiment."""

from __future__ import annotations

from typing import Literal

import fiddle as fdl

from components.encoders.conformer import ConformerEncoder
from components.heads.ctc import CTCHead
from components.optimizers.adamw import AdamW
from components.schedulers.noam import Noam
from components.tokenizers.character import CharacterTokenizer
from core.config.presets import preset
from core.experiment import Experiment
from core.train.trainer import Trainer
from tests.core.config.toy.parts import Mixing, ToyCallback, ToyData, ToyTask, times


def experiment(
    *,
    scale: Literal["small", "large"] = "small",
    width: int = 144,
    train: str = "demo:train",
    rate: float | None = None,
) -> fdl.Config[Experiment]:
    """Compose it."""
    tokenizer = fdl.Config(CharacterTokenizer)
    return fdl.Config(
        Experiment,
        name=f"toy-{scale}",
        task=fdl.Config(
            ToyTask,
            encoder=fdl.Config(ConformerEncoder, dim=width, layers=2, dropout=0.2),
            head=fdl.Config(CTCHead),
            tokenizer=tokenizer,
            mixing=fdl.Config(Mixing, ctc=0.5),
        ),
        data=fdl.Config(
            ToyData,
            train=train,
            validation={"dev": "demo:dev", "test.clean": "demo:test"},
            tokenizer=tokenizer,
            sort=fdl.Partial(times, factor=2),
        ),
        optimizer=fdl.Config(AdamW, lr=rate or 1e-3),
        scheduler=fdl.Config(Noam, d_model=width, warmup_steps=10),
        trainer=fdl.Config(Trainer, max_steps=5),
        callbacks=[fdl.Config(ToyCallback, every=5), fdl.Config(ToyCallback, name="second")],
    )


@preset
def narrow(config: fdl.Config[Experiment]) -> None:
    """Make the encoder narrow."""
    config.task.encoder.dim = 16


@preset
def idle(config: fdl.Config[Experiment]) -> None:
    """Change nothing."""
    config.task.encoder.layers = 2


@preset
def broken(config: fdl.Config[Experiment]) -> None:
    """Set what is not there."""
    config.task.encoder.widht = 3
