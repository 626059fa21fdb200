"""Stage 1: a Conformer encoder trained with CTC.

    python -m core.run experiments/stage1_ctc.py
    python -m core.run experiments/stage1_ctc.py train=nemo:train.json validation=nemo:dev.json
    python -m core.run experiments/stage1_ctc.py --init-from PRETRAINED_RUN
    torchrun --standalone --nproc_per_node=8 -m core.run experiments/stage1_ctc.py scale=full

``scale=demo`` speaks its own corpus and learns it in minutes on two CPU cores. ``scale=full`` is
the recipe for thousands of hours: dim 512, 12 layers, 8 heads, peak rate 1e-3 after 30,000 steps.

``--init-from`` takes over the encoder of a pre-training run with its features: their settings, by
way of the knob ``encoder_from``, and their weights. ``encoder_from=RUN`` alone trains the same
architecture from scratch, to compare with.
"""

from __future__ import annotations

from typing import Literal

import fiddle as fdl

from components.augmentations.spec_augment import SpecAugment
from components.datasets.speech_data import SpeechData
from components.decoders.greedy import GreedyDecoder
from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.ctc import CTCHead
from components.losses.ctc import CTCLoss
from components.optimizers.adamw import AdamW
from components.schedulers.cosine import Cosine
from components.schedulers.inverse_sqrt import InverseSqrt
from components.tasks.ctc import CTCTask
from components.tokenizers.bpe import BPETokenizer
from components.tokenizers.character import CharacterTokenizer
from components.trackers.aim import AimTracker
from core.config.notes import note
from core.experiment import Experiment
from core.train.callbacks.checkpoints import Checkpoints
from core.train.callbacks.progress import ProgressBar
from core.train.callbacks.samples import Samples
from core.train.callbacks.skips import Skips
from core.train.callbacks.watchdog import Watchdog
from core.train.trainer import Trainer
from experiments.handover import ears_of

FULL_CORPUS = "hf:parler-tts/mls_eng"
PIECES = 128


def experiment(
    *,
    scale: Literal["demo", "full"] = "demo",
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    encoder_from: str | None = None,
    seed: int = 0,
) -> fdl.Config[Experiment]:
    """Compose the stage.

    Args:
        scale: ``demo`` for minutes on two CPU cores, ``full`` for the published recipe.
        train: source of training speech, such as ``nemo:train.json``; None for the scale's own.
        validation: source that decides which weights are best.
        test: source that is evaluated once, at the end; none by default where ``train`` is given.
        encoder_from: run or checkpoint whose encoder and features are configured here too, without
            its weights; ``--init-from`` sets it, and takes the weights. At the demo's scale an
            encoder that leaves 12.5 frames a second gets subwords for characters, which are more
            than that.
        seed: of weights, data order and augmentation.
    """
    config = _full() if scale == "full" else _demo()
    config.seed = seed
    if encoder_from is not None:
        _take_encoder(config, encoder_from)
    if train is not None:
        config.data.train = train
        config.data.validation = {}
        config.data.test = {}
    if validation is not None:
        config.data.validation = {"val": validation}
    if test is not None:
        config.data.test = {"test": test}
    return config


def _take_encoder(config: fdl.Config[Experiment], run: str) -> None:
    """Hear with the features and the encoder of a former run."""
    ears = ears_of(run)
    config.task.features, config.task.encoder = ears
    note(f"features and encoder are configured as in {run}")
    characters = fdl.get_callable(config.task.tokenizer) is CharacterTokenizer
    if characters and getattr(ears.encoder, "subsampling", 1) >= 8:
        tokenizer = fdl.Config(BPETokenizer, vocab_size=PIECES, shrink=True)
        config.task.tokenizer = config.data.tokenizer = tokenizer
        note(
            f"a tokenizer of {PIECES} pieces in place of characters: an encoder that subsamples "
            f"by {ears.encoder.subsampling} leaves fewer frames than there are characters"
        )


def _demo() -> fdl.Config[Experiment]:
    tokenizer = fdl.Config(CharacterTokenizer)
    return fdl.Config(
        Experiment,
        name="stage1_ctc-demo",
        task=fdl.Config(
            CTCTask,
            features=fdl.Config(LogMel),
            augmentation=fdl.Config(SpecAugment),
            encoder=fdl.Config(
                ConformerEncoder,
                dim=128,
                layers=4,
                heads=4,
                kernel_size=15,
                subsampling_channels=32,
                dropout=0.1,
            ),
            head=fdl.Config(CTCHead),
            loss=fdl.Config(CTCLoss),
            tokenizer=tokenizer,
            decoder=fdl.Config(GreedyDecoder),
        ),
        data=fdl.Config(
            SpeechData,
            train="demo:train",
            validation={"val": "demo:validation"},
            test={"test": "demo:test"},
            tokenizer=tokenizer,
            batch_seconds=60.0,
            max_seconds=20.0,
        ),
        optimizer=fdl.Config(AdamW, lr=2e-3, weight_decay=1e-2),
        scheduler=fdl.Config(Cosine, warmup_steps=120),
        trainer=fdl.Config(
            Trainer, max_steps=1300, log_every=20, validate_every=260, clip_norm=5.0
        ),
        callbacks=[
            fdl.Config(Skips),
            fdl.Config(Samples, limit=2),
            fdl.Config(ProgressBar),
            fdl.Config(Checkpoints, every=260, monitor="val/wer"),
            fdl.Config(Watchdog),
        ],
        trackers=[fdl.Config(AimTracker)],
    )


def _full() -> fdl.Config[Experiment]:
    config = _demo()
    config.name = "stage1_ctc"
    tokenizer = fdl.Config(BPETokenizer, vocab_size=1024)
    config.task.tokenizer = tokenizer
    # Depthwise-separable striding: full convolutions would be a fifth of the step.
    config.task.encoder = fdl.Config(
        ConformerEncoder, dim=512, layers=12, heads=8, subsampling_method="dw_striding"
    )
    config.data = fdl.Config(
        SpeechData,
        train=f"{FULL_CORPUS}?split=train",
        validation={"val": f"{FULL_CORPUS}?split=dev"},
        test={"test": f"{FULL_CORPUS}?split=test"},
        tokenizer=tokenizer,
        batch_seconds=480.0,
        max_batch=32,
        max_seconds=20.0,
        workers=8,
        tokenizer_texts=200_000,
    )
    config.optimizer = fdl.Config(AdamW, lr=1e-3, weight_decay=1e-3)
    config.scheduler = fdl.Config(InverseSqrt, warmup_steps=30_000)
    config.trainer = fdl.Config(
        Trainer,
        max_steps=500_000,
        precision="bf16",
        log_every=100,
        validate_every=1_000,
        sync_batchnorm=True,
    )
    config.callbacks = [
        fdl.Config(Skips),
        fdl.Config(Samples, limit=4, every=5),
        fdl.Config(ProgressBar),
        fdl.Config(
            Checkpoints, every=5_000, keep_last=3, keep_best=3, keep_every=50_000, monitor="val/wer"
        ),
        fdl.Config(Watchdog),
    ]
    return config
