"""A speech LLM adapted to a domain: LoRA on its audio projector alone.

    python -m core.run experiments/asr_adapter.py
    python -m core.run experiments/asr_adapter.py scale=full --dry-run
    python -m core.run experiments/asr_adapter.py scale=full base=VOXTRAL_FOLDER \
        train=nemo:train.jsonl validation=nemo:dev.jsonl test=nemo:test.jsonl

Encoder and language model of Voxtral are frozen, in 4 bits; trained are low-rank adapters on the
two linear layers between them. Validation and test give every error rate beside that of the base
alone. ``scale=full`` is the recipe for Voxtral-Mini-3B on one modest GPU. ``scale=demo`` needs no
download: it makes a tiny Voxtral that knows 32 sentences from the mouths of adults, and adapts it
to children, in minutes on two CPU cores.
"""

from __future__ import annotations

from typing import Literal

import fiddle as fdl

from components.datasets.speech_llm import SpeechLLMData
from components.optimizers.adamw import AdamW
from components.schedulers.cosine import Cosine
from components.schedulers.wsd import WSD
from components.speech_llm.base import DEMO_BASE
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.tasks.speech_adapter import SpeechAdapterTask
from components.text.normalizer import TextNormalizer
from components.trackers.aim import AimTracker
from core.experiment import Experiment
from core.train.callback import Callback
from core.train.callbacks.checkpoints import Checkpoints
from core.train.callbacks.progress import ProgressBar
from core.train.callbacks.samples import Samples
from core.train.callbacks.skips import Skips
from core.train.callbacks.throughput import Throughput
from core.train.callbacks.watchdog import Watchdog
from core.train.trainer import Trainer

FULL_BASE = "mistralai/Voxtral-Mini-3B-2507"


def experiment(
    *,
    scale: Literal["demo", "full"] = "demo",
    base: str | None = None,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    language: str | None = "ko",
    seed: int = 0,
) -> fdl.Config[Experiment]:
    """Compose the stage.

    Args:
        scale: ``demo`` for minutes on two CPU cores, ``full`` for the recipe.
        base: folder or hub id of the model to adapt; None for the scale's own.
        train: source of training speech, such as ``nemo:train.jsonl``; None for the scale's own.
        validation: source that decides which weights are best.
        test: source that is evaluated once, at the end; none by default where ``train`` is given.
        language: code that the prompt names; null lets the model find out.
        seed: of adapters, dropout and data order.
    """
    config = _full() if scale == "full" else _demo()
    config.seed = seed
    config.task.language = language
    if language not in (None, "ko"):
        config.task.text.language = "en"  # Whose rules for apostrophes are those of Latin script.
    if base is not None:
        config.task.model.base = base
    if train is not None:
        config.data.train = train
        config.data.validation = {}
        config.data.test = {}
    if validation is not None:
        config.data.validation = {"val": validation}
    if test is not None:
        config.data.test = {"test": test}
    return config


def _demo() -> fdl.Config[Experiment]:
    """Return what adapts a model of adults' speech to children."""
    model = fdl.Config(
        SpeechLLM,
        base=DEMO_BASE,
        lora=fdl.Config(LoRA),
        quantization="none",
        dtype="float32",
        max_new_tokens=48,
    )
    text = fdl.Config(TextNormalizer)
    return fdl.Config(
        Experiment,
        name="asr_adapter-demo",
        task=fdl.Config(SpeechAdapterTask, model=model, text=text),
        data=fdl.Config(
            SpeechLLMData,
            train="clinic:train",
            validation={"val": "clinic:validation"},
            test={"test": "clinic:test"},
            model=model,
            text=text,
            batch_size=8,
            min_seconds=0.5,
            workers=1,
        ),
        # A hundred times the recipe's rate: the model is narrow, and takes 300 steps in all.
        optimizer=fdl.Config(AdamW, lr=1e-2, betas=(0.9, 0.999)),
        scheduler=fdl.Config(Cosine, warmup_steps=30),
        trainer=fdl.Config(Trainer, max_steps=300, log_every=20, validate_every=100),
        callbacks=_callbacks(every=100),
        trackers=[fdl.Config(AimTracker)],
    )


def _full() -> fdl.Config[Experiment]:
    """Return the recipe: two epochs over clips of 3 to 25 s, 32 of them a step."""
    model = fdl.Config(
        SpeechLLM,
        base=FULL_BASE,
        lora=fdl.Config(LoRA, rank=8, alpha=16, dropout=0.05),
        quantization="nf4",
        gradient_checkpointing=True,
    )
    config = _demo()
    config.name = "asr_adapter"
    config.task.model = model
    config.data = fdl.Config(
        SpeechLLMData,
        train="nemo:train.jsonl",
        validation={"val": "nemo:validation.jsonl"},
        test={},
        model=model,
        text=config.task.text,
        batch_size=8,
        workers=4,
    )
    config.optimizer = fdl.Config(AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
    # From the full rate straight down to zero, as transformers' Trainer does by default.
    config.scheduler = fdl.Config(WSD, warmup_steps=0, decay_share=1.0, shape="linear")
    config.trainer = fdl.Config(
        Trainer,
        max_epochs=2,
        accumulation=4,
        precision="bf16",
        log_every=20,
        validate_every=200,
    )
    config.callbacks = _callbacks(every=200)
    return config


def _callbacks(*, every: int) -> list[fdl.Config[Callback]]:
    return [
        fdl.Config(Skips),
        fdl.Config(Samples, limit=4),
        fdl.Config(ProgressBar),
        fdl.Config(Throughput, loss="ce"),
        fdl.Config(Checkpoints, every=every, keep_last=2, monitor="val/cer"),
        fdl.Config(Watchdog),
    ]
