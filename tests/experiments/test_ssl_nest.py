"""The NEST recipe: every value in a golden text, so that a change of one is seen in review.

After a change on purpose: ``python -m core.inspect show experiments/ssl_nest.py scale=full``
gives the new text of ``tests/golden/ssl_nest-full.txt``, without the lines that begin with ``#``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest

from core.config import snapshot
from core.config.flatten import flat_text
from core.config.lint import lint
from core.errors import ConfigError
from core.experiment import Experiment
from core.train.parameters import parameter_counts
from experiments.ssl_nest import experiment

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = pytest.mark.parametrize("scale", ["demo", "full"])


@SCALES
def test_matches_its_golden_text(scale: Any) -> None:
    golden = (GOLDEN / f"ssl_nest-{scale}.txt").read_text(encoding="utf-8")
    assert flat_text(experiment(scale=scale)).splitlines() == golden.splitlines()


@SCALES
def test_lints_clean_builds_and_survives_saving(scale: Any, tmp_path: Path) -> None:
    config = experiment(scale=scale)
    assert lint(config) == []
    assert isinstance(fdl.build(config), Experiment)
    snapshot.save(config, tmp_path, header={})
    assert flat_text(snapshot.load(tmp_path)) == flat_text(config)


@pytest.mark.parametrize(
    ("knobs", "encoder", "trainable", "everything"),
    [
        ({}, 108_762_112, 112_964_608, 113_106_000),
        ({"released": True}, 115_074_560, 119_277_056, 119_418_448),
        ({"size": "small"}, 12_600_240, 14_050_224, 14_191_616),
        ({"size": "medium"}, 26_128_640, 28_233_984, 28_375_376),
        ({"size": "xlarge"}, 607_306_752, 615_703_552, 615_844_944),
        ({"size": "xxlarge"}, 1_060_543_488, 1_068_940_288, 1_069_081_680),
    ],
)
def test_published_sizes_have_the_published_parameters(
    knobs: dict[str, Any], encoder: int, trainable: int, everything: int
) -> None:
    built: Experiment = fdl.build(experiment(scale="full", **knobs))
    built.task.outline()  # creates the parameters, without memory
    assert parameter_counts(built.task) == (trainable, everything)
    assert parameter_counts(built.task.encoder) == (encoder, encoder)


def test_full_scale_is_the_published_recipe() -> None:
    config = experiment(scale="full")
    encoder = config.task.encoder
    assert (encoder.dim, encoder.layers, encoder.heads, encoder.kernel_size) == (512, 17, 8, 9)
    assert (encoder.subsampling, encoder.subsampling_method) == (8, "dw_striding")
    assert encoder.scale_input is True
    assert config.task.features.dither == 1e-5
    assert config.data.max_batch == 8
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (5.0, 1e-3)
    assert (config.optimizer.betas, config.optimizer.decay) == ((0.9, 0.98), "all")
    assert config.scheduler.warmup_steps == 25_000
    trainer = config.trainer
    assert (trainer.max_steps, trainer.validate_every) == (500_000, 2_500)
    assert (trainer.clip_norm, trainer.sync_batchnorm) == (None, True)
    schedule = fdl.build(config.scheduler)
    assert 5.0 * schedule.factor(25_001, None) == pytest.approx(1.3975e-3, rel=1e-4)
    assert 5.0 * schedule.factor(500_001, None) == pytest.approx(3.125e-4, rel=1e-4)


def test_released_weights_have_the_numerics_of_their_time() -> None:
    task = experiment(scale="full", released=True).task
    assert task.encoder.layers == 18
    assert task.encoder.mask_subsampling is False
    assert task.features.edges == "reflect"
    assert task.features.pad_to == 16


def test_faithful_sets_every_option_that_is_nemos() -> None:
    config = experiment(scale="full", faithful=True)
    assert config.task.features.pad_to == 16
    assert config.task.encoder.batch_norm_over == "all_frames"
    augmentation = config.data.augmentation
    assert augmentation.unaugmented == "raw_noise"
    assert augmentation.unaugmented_length == "noise"
    assert augmentation.same_speaker is True
    assert lint(config) == []


def test_given_training_data_replace_all_sources_of_the_demo() -> None:
    config = experiment(train="nemo:a.json", noise="nemo:noise.json")
    assert config.data.train == "nemo:a.json"
    assert config.data.validation == {}
    assert config.data.noise == "nemo:noise.json"
    assert config.data.validation_noise is None


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"size": "small"}, "size and released are knobs of scale=full"),
        ({"scale": "full", "size": "small", "released": True}, "those of size=large, found"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        experiment(**knobs)
