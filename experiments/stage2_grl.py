"""Stage 2: a text-to-semantic GPT whose emotion vector is to forget the speaker.

    python -m core.run experiments/stage2_grl.py
    GRL_LAMBDA=0 python -m core.run experiments/stage2_grl.py
    python -m core.run experiments/stage2_grl.py scale=full train=pairs/train.jsonl \
        validation=pairs/val.jsonl speakers=pairs/speakers.json \
        --init-from 'indextts:gpt.pth?fresh=emo_conditioning_encoder.embed'

The emotion vector joins the prefix of the GPT, and goes through a gradient reversal into speaker
classifiers, which learn beside it (IndexTTS2, stage 2). A run with lambda 0 is the twin to compare
with: the same data, steps and seed, classifiers that learn and report, and a reversal that does
nothing. ``scale=demo`` speaks its own corpus, many voices in five styles, and trains in minutes on
two CPU cores. ``scale=full`` has the published widths and the guide's values; ``+stable`` those to
which its author came back.
"""

from __future__ import annotations

from typing import Literal

import fiddle as fdl

from components.adversary.emotion_bound import EmotionBound
from components.adversary.ensemble import SpeakerAdversary
from components.adversary.lambda_schedules import GaninLambda, LinearLambda
from components.adversary.limits import adversary_limits
from components.adversary.speaker_classifier import SpeakerClassifier
from components.datasets.speech_pairs import SpeechPairData
from components.datasets.styled_codes import CODE_SECONDS
from components.datasets.styled_speech import TEXT_VOCAB
from components.models.unified_voice import UnifiedVoice
from components.optimizers.adamw import AdamW
from components.schedulers.wsd import WSD
from components.tasks.speaker_adversarial import SpeakerAdversarialTask
from components.trackers.aim import AimTracker
from core.config.environment import from_environment
from core.config.presets import preset
from core.errors import ConfigError
from core.experiment import Experiment
from core.train.callback import Callback
from core.train.callbacks.alarms import Alarms
from core.train.callbacks.checkpoints import Checkpoints
from core.train.callbacks.events import Events
from core.train.callbacks.progress import ProgressBar
from core.train.callbacks.skips import Skips
from core.train.callbacks.watchdog import Watchdog
from core.train.trainer import Trainer

GUIDE_LR = 2e-4
GUIDE_WARMUP = 1000
GUIDE_LAMBDA = 1.0


@from_environment(
    "BATCH_SIZE",
    "GRAD_ACC",
    "LR",
    "WARMUP_STEPS",
    "EPOCHS",
    "MAX_STEPS",
    "GRL_LAMBDA",
    "SPEAKER_LOSS_WEIGHT",
    "NUM_WORKERS",
    "LIMIT",
)
def experiment(
    *,
    scale: Literal["demo", "full"] = "demo",
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    speakers: str | None = None,
    emo_source: Literal["target", "prompt", "mix"] = "target",
    batch_size: int | None = None,
    grad_acc: int | None = None,
    lr: float | None = None,
    warmup_steps: int | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    grl_lambda: float | None = None,
    speaker_loss_weight: float | None = None,
    num_workers: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> fdl.Config[Experiment]:
    """Compose the stage. None leaves a value to the scale.

    The knobs from ``batch_size`` to ``limit`` may be given by environment variables too, by their
    names in capitals.

    Args:
        scale: ``demo`` for minutes on two CPU cores, ``full`` for the published model.
        train: pair manifest, or a URI such as ``demo:train``.
        validation: pair manifest that decides which weights are best; none by default where
            ``train`` is given.
        test: pair manifest that is evaluated once, at the end; likewise.
        speakers: speaker mapping; the adversary needs one of the speakers of ``train``.
        emo_source: the utterance whose mel gives the emotion vector.
        batch_size: rows of a micro-batch.
        grad_acc: micro-batches of an optimiser step.
        lr: peak rate of the model; the classifiers have a rate of their own.
        warmup_steps: until the peak.
        epochs: passes over the training rows, in place of ``max_steps``.
        max_steps: optimiser steps, in place of ``epochs``; 0 is none.
        grl_lambda: factor of the reversal after its ramp; 0 for the twin.
        speaker_loss_weight: in front of that factor.
        num_workers: processes that load training batches.
        limit: train on the first so many rows alone.
        seed: of weights, order of rows and all that is drawn.
    """
    config = _full() if scale == "full" else _demo()
    config.seed = seed
    data, task = config.data, config.task
    if train is not None:
        data.train, data.speakers = train, None
        data.validation, data.test = {}, {}
    if speakers is not None:
        data.speakers = speakers
    if validation is not None:
        data.validation = {"val": validation}
    if test is not None:
        data.test = {"test": test}
    data.emotion = emo_source
    _set_length(config, epochs=epochs, max_steps=max_steps or None)
    for owner, name, value in (
        (data, "batch_size", batch_size),
        (data, "workers", num_workers),
        (data, "limit", limit),
        (config.trainer, "accumulation", grad_acc),
        (config.optimizer, "lr", lr),
        (config.scheduler, "warmup_steps", warmup_steps),
        (task.adversary.schedule, "value", grl_lambda),
        (task, "speaker_weight", speaker_loss_weight),
    ):
        if value is not None:
            setattr(owner, name, value)
    return config


@preset
def stable(config: fdl.Config[Experiment]) -> None:
    """Set lr 2e-5, warm-up 2,000 and lambda 0.5 in place of the guide's values; train in bf16."""
    if config.name != "stage2_grl":
        raise ConfigError("these values are for scale=full: the demo's model starts from nothing")
    schedule = config.task.adversary.schedule
    for owner, name, guide, better in (
        (config.optimizer, "lr", GUIDE_LR, 2e-5),
        (config.scheduler, "warmup_steps", GUIDE_WARMUP, 2000),
        (schedule, "value", GUIDE_LAMBDA, 0.5),
    ):
        if getattr(owner, name) == guide:  # Another value was set by a knob, and stays.
            setattr(owner, name, better)
    config.trainer.precision = "bf16"


def _demo() -> fdl.Config[Experiment]:
    """Return what learns the corpus that it speaks itself."""
    adversary = fdl.Config(
        SpeakerAdversary,
        classifier=fdl.Config(SpeakerClassifier, hidden=128, dropout=0.0, label_smoothing=0.1),
        # The model begins from nothing: a reversal before the vector is of use only empties it.
        schedule=fdl.Config(LinearLambda, value=GUIDE_LAMBDA, hold_steps=2000, ramp_steps=200),
        members=3,
        steps=3,
        memory=256,
        lr=2e-3,
        reinit_every=300,
        noise=0.3,
        stop_at_chance=True,
    )
    return fdl.Config(
        Experiment,
        name="stage2_grl-demo",
        task=fdl.Config(
            SpeakerAdversarialTask,
            model=fdl.Config(
                UnifiedVoice,
                dim=128,
                layers=4,
                heads=4,
                text_vocab=TEXT_VOCAB,
                max_text_tokens=128,
                semantic_codes=256,
                max_semantic_tokens=256,
                num_latents=8,
                # The corpus stores the speaker's latents, and the speaker's branch is idle.
                speaker_features=80,
                speaker_dim=32,
                speaker_layers=1,
                speaker_heads=2,
                speaker_feed_forward=64,
                emotion_features=80,
                emotion_dim=64,
                emotion_layers=2,
                emotion_heads=2,
                emotion_feed_forward=128,
                emotion_perceiver_dim=128,
            ),
            adversary=adversary,
            bound=fdl.Config(EmotionBound, bound="centred"),
            # Found by trial: less leaves a linear probe more of the speakers, more costs loss.
            speaker_weight=0.095,
            # Speech that gets only what stands out of the noise misses less of what is forgotten.
            emotion_noise=0.8,
        ),
        data=fdl.Config(
            SpeechPairData,
            train="demo:train",
            validation={"val": "demo:validation"},
            test={"probe": "demo:probe", "unseen": "demo:unseen"},
            speakers="demo:speakers",
            batch_size=16,
            max_text=128,
            max_codes=256,
            token_seconds=CODE_SECONDS,
        ),
        # Momentum overshoots where two sides play against each other, as in a GAN.
        optimizer=fdl.Config(AdamW, lr=1e-3, betas=(0.5, 0.999), lr_scale={"model.emo*": 0.3}),
        scheduler=fdl.Config(WSD, warmup_steps=100, decay_share=0.3),
        trainer=fdl.Config(Trainer, max_steps=3600, log_every=20, validate_every=250),
        callbacks=_callbacks(every=250),
        trackers=[fdl.Config(AimTracker)],
    )


def _full() -> fdl.Config[Experiment]:
    """Return the guide's values for the published model, with an adversary that can be trusted."""
    adversary = fdl.Config(
        SpeakerAdversary,
        classifier=fdl.Config(SpeakerClassifier, hidden=512, dropout=0.3),
        # A ramp in steps of its own: the guide's follows the length of a manifest.
        schedule=fdl.Config(GaninLambda, value=GUIDE_LAMBDA, ramp_steps=5000),
        members=3,
        steps=3,
        lr=1e-3,
        reinit_every=2000,
        stop_at_chance=True,
        pretrain_steps=500,
    )
    config = _demo()
    config.name = "stage2_grl"
    config.task = fdl.Config(
        SpeakerAdversarialTask,
        model=fdl.Config(UnifiedVoice, emotion_features=80),
        adversary=adversary,
        # Stock inference bounds nothing, so growth is made costly instead.
        bound=fdl.Config(EmotionBound, bound="none"),
        norm_weight=0.1,
    )
    config.data = fdl.Config(
        SpeechPairData,
        train="gpt_pairs_train.jsonl",
        validation={"val": "gpt_pairs_val.jsonl"},
        test={},
        speakers="speakers.json",
        batch_size=16,
        workers=32,
    )
    config.optimizer = fdl.Config(AdamW, lr=GUIDE_LR, betas=(0.9, 0.999), weight_decay=1e-2)
    config.scheduler = fdl.Config(
        WSD, warmup_steps=GUIDE_WARMUP, wait_steps=adversary.pretrain_steps, shape="cosine"
    )
    config.trainer = fdl.Config(
        Trainer, max_epochs=1, accumulation=4, clip_norm=0.5, log_every=100, validate_every=500
    )
    config.callbacks = _callbacks(every=500, keep_every=10_000)
    return config


def _callbacks(*, every: int, keep_every: int | None = None) -> list[fdl.Config[Callback]]:
    return [
        fdl.Config(Skips),
        fdl.Config(Events),
        fdl.Config(Alarms, limits=adversary_limits()),
        fdl.Config(ProgressBar),
        fdl.Config(Checkpoints, every=every, keep_last=2, keep_every=keep_every),
        fdl.Config(Watchdog),
    ]


def _set_length(
    config: fdl.Config[Experiment], *, epochs: int | None, max_steps: int | None
) -> None:
    if epochs is not None and max_steps is not None:
        raise ConfigError(f"epochs={epochs} and max_steps={max_steps}: give one of them")
    if epochs is not None or max_steps is not None:
        config.trainer.max_epochs, config.trainer.max_steps = epochs, max_steps
