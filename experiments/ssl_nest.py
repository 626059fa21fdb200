"""NEST: self-supervised pre-training of a FastConformer on speech without transcripts.

    python -m core.run experiments/ssl_nest.py
    python -m core.run experiments/ssl_nest.py train=nemo:train.json noise=nemo:noise.json
    torchrun --standalone --nproc_per_node=8 -m core.run experiments/ssl_nest.py scale=full

The model predicts random-projection tokens of clean speech from masked speech that is mixed with
noise and with other speakers (Huang et al. 2024). ``scale=demo`` learns the corpus that it speaks
itself, in minutes on two CPU cores. ``scale=full`` is NEST-Large as published, 17 layers of width
512. What comes of it starts Stage 1:

    python -m core.run experiments/stage1_ctc.py --init-from RUN
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import fiddle as fdl

from components.augmentations.multi_speaker_noise import MultiSpeakerNoise
from components.datasets.noisy_speech import NoisySpeechData
from components.encoders.conformer import ConformerEncoder
from components.features.log_mel import LogMel
from components.heads.multi_softmax import MultiSoftmaxHead
from components.losses.masked_prediction import MaskedPredictionLoss
from components.masking.random_block import RandomBlockMasking
from components.optimizers.adamw import AdamW
from components.quantizers.random_projection import RandomProjectionQuantizer
from components.schedulers.cosine import Cosine
from components.schedulers.noam import Noam
from components.tasks.masked_prediction import MaskedPredictionTask
from components.trackers.aim import AimTracker
from core.errors import ConfigError
from core.experiment import Experiment
from core.train.callbacks.checkpoints import Checkpoints
from core.train.callbacks.events import Events
from core.train.callbacks.progress import ProgressBar
from core.train.callbacks.samples import Samples
from core.train.callbacks.skips import Skips
from core.train.callbacks.watchdog import Watchdog
from core.train.trainer import Trainer

FULL_CORPUS = "hf:parler-tts/mls_eng"

Size = Literal["small", "medium", "large", "xlarge", "xxlarge"]


class _Shape(NamedTuple):
    dim: int
    heads: int
    layers: int
    kernel_size: int
    weight_decay: float
    scale_input: bool
    bias: bool


SHAPES: dict[Size, _Shape] = {
    "small": _Shape(176, 4, 16, 9, 0.0, True, True),
    "medium": _Shape(256, 4, 16, 9, 1e-3, True, True),
    "large": _Shape(512, 8, 17, 9, 1e-3, True, True),
    "xlarge": _Shape(1024, 8, 24, 9, 1e-3, False, False),
    "xxlarge": _Shape(1024, 8, 42, 5, 1e-3, False, False),
}


def experiment(
    *,
    scale: Literal["demo", "full"] = "demo",
    size: Size = "large",
    released: bool = False,
    faithful: bool = False,
    blind: bool = False,
    train: str | None = None,
    validation: str | None = None,
    noise: str | None = None,
    validation_noise: str | None = None,
    seed: int = 0,
) -> fdl.Config[Experiment]:
    """Compose the stage.

    Args:
        scale: ``demo`` for minutes on two CPU cores, ``full`` for the published recipe.
        size: of the published models; for ``scale=full``.
        released: the form of the released weights ``ssl_en_nest_large_v1.0``: 18 layers, and the
            features and subsampling of NeMo before 2.5; for ``scale=full size=large``.
        faithful: do as NeMo 2.5 to 2.7 does where Sori does otherwise by default: batch statistics
            over padding, and the bookkeeping of speech that is not augmented. What has no option
            since nobody can want it, such as a NaN loss of short speech, is listed with the task
            and with the noise sampler.
        blind: hide all audio from the encoder, to measure what can be guessed without it.
        train: source of training speech, such as ``nemo:train.json``; None for the scale's own.
        validation: source that decides which weights are best.
        noise: source of noise for training; None for other speakers alone at ``scale=full``.
        validation_noise: source of noise for validation.
        seed: of weights, data order, noise and masks.
    """
    if scale == "demo" and (size != "large" or released):
        raise ConfigError("size and released are knobs of scale=full; the demo has one small model")
    if released and size != "large":
        raise ConfigError(f"released weights are those of size=large, found size={size}")
    config = _full(SHAPES[size]) if scale == "full" else _demo()
    config.seed = seed
    if train is not None:
        config.data.train = train
        config.data.validation = {}
        config.data.noise = None
        config.data.validation_noise = None
    if validation is not None:
        config.data.validation = {"val": validation}
    if noise is not None:
        config.data.noise = noise
    if validation_noise is not None:
        config.data.validation_noise = validation_noise
    config.task.masking.hide_all = blind
    if released:
        _as_released(config)
    if faithful:
        _as_nemo(config)
    return config


def _demo() -> fdl.Config[Experiment]:
    return fdl.Config(
        Experiment,
        name="ssl_nest-demo",
        task=fdl.Config(
            MaskedPredictionTask,
            features=fdl.Config(LogMel),
            # Two hours of one synthesiser neither fill eight thousand codes nor tell enough in
            # minutes: small codebooks, eight targets a frame, blocks of two to three targets.
            masking=fdl.Config(RandomBlockMasking, block_size=16, mask_prob=0.04),
            quantizer=fdl.Config(RandomProjectionQuantizer, num_books=8, codebook_size=64),
            encoder=fdl.Config(
                ConformerEncoder,
                dim=128,
                layers=4,
                heads=4,
                kernel_size=9,
                subsampling=8,
                subsampling_method="dw_striding",
                subsampling_channels=32,
                dropout=0.0,
                attention_dropout=0.0,
            ),
            head=fdl.Config(MultiSoftmaxHead),
            loss=fdl.Config(MaskedPredictionLoss),
        ),
        data=fdl.Config(
            NoisySpeechData,
            train="demo:train",
            validation={"val": "demo:validation"},
            test={},
            noise="synthetic_noise:train?seconds=4",
            validation_noise="synthetic_noise:validation?seconds=4",
            augmentation=fdl.Config(MultiSpeakerNoise),
            batch_seconds=60.0,
            max_seconds=20.0,
        ),
        optimizer=fdl.Config(AdamW, lr=3e-3, weight_decay=1e-3, decay="all"),
        scheduler=fdl.Config(Cosine, warmup_steps=100),
        trainer=fdl.Config(
            Trainer, max_steps=2500, log_every=20, validate_every=500, clip_norm=5.0
        ),
        callbacks=[
            fdl.Config(Skips),
            fdl.Config(Events),
            fdl.Config(Samples, limit=2),
            fdl.Config(ProgressBar),
            fdl.Config(Checkpoints, every=500, monitor="val/loss"),
            fdl.Config(Watchdog),
        ],
        trackers=[fdl.Config(AimTracker)],
    )


def _full(shape: _Shape) -> fdl.Config[Experiment]:
    config = _demo()
    config.name = "ssl_nest"
    config.task.features = fdl.Config(LogMel, dither=1e-5)
    config.task.masking = fdl.Config(RandomBlockMasking)
    config.task.quantizer = fdl.Config(RandomProjectionQuantizer)
    config.task.encoder = fdl.Config(
        ConformerEncoder,
        dim=shape.dim,
        layers=shape.layers,
        heads=shape.heads,
        kernel_size=shape.kernel_size,
        subsampling=8,
        subsampling_method="dw_striding",
        scale_input=shape.scale_input,
        bias=shape.bias,
    )
    config.data = fdl.Config(
        NoisySpeechData,
        train=f"{FULL_CORPUS}?split=train",
        validation={"val": f"{FULL_CORPUS}?split=dev"},
        test={},
        noise=None,
        augmentation=fdl.Config(MultiSpeakerNoise),
        batch_seconds=480.0,
        max_batch=8,
        drop_last=True,
        min_seconds=1.0,
        max_seconds=60.0,
        workers=8,
    )
    lr = 5.0
    config.optimizer = fdl.Config(AdamW, lr=lr, weight_decay=shape.weight_decay, decay="all")
    config.scheduler = fdl.Config(
        Noam, d_model=shape.dim, warmup_steps=25_000, offset=1, min_factor=1e-6 / lr
    )
    config.trainer = fdl.Config(
        Trainer,
        max_steps=500_000,
        log_every=10,
        validate_every=2_500,
        clip_norm=None,
        sync_batchnorm=True,
    )
    config.callbacks = [
        fdl.Config(Skips),
        fdl.Config(Events),
        fdl.Config(Samples, limit=4, every=4),
        fdl.Config(ProgressBar),
        fdl.Config(Checkpoints, every=2_500, keep_last=2, keep_best=1, monitor="val/loss"),
        fdl.Config(Watchdog),
    ]
    return config


def _as_released(config: fdl.Config[Experiment]) -> None:
    """Take the form of the weights that were released in December 2024."""
    config.task.encoder.layers = 18
    config.task.encoder.mask_subsampling = False
    config.task.features.edges = "reflect"
    config.task.features.pad_to = 16  # without masks, this padding reaches the last real frame


def _as_nemo(config: fdl.Config[Experiment]) -> None:
    """Do what NeMo does and Sori would not."""
    augmentation = config.data.augmentation
    augmentation.unaugmented = "raw_noise"
    augmentation.unaugmented_length = "noise"
    augmentation.same_speaker = True
    augmentation.segmentation = "multinomial"
    config.task.features.pad_to = 16  # its batch statistics include this padding
    config.task.encoder.batch_norm_over = "all_frames"
