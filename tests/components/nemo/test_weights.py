from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components.nemo.archive import opened, write
from components.nemo.describe import configuration
from components.nemo.weights import NemoWeights
from core.errors import CheckpointError
from core.train.initial import open_weights
from tests.components.nemo.models import make_task, nemo_state


@pytest.mark.parametrize("suffix", [".nemo", ".ckpt", ".safetensors"])
def test_a_task_saved_and_loaded_into_another(suffix: str, tmp_path: Path) -> None:
    source, target = make_task(), make_task()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    weights = open_weights(f"nemo:{tmp_path}/model{suffix}")
    assert isinstance(weights, NemoWeights)
    lines = weights.save(source)
    parameters = sum(p.numel() for p in source.parameters())
    assert f"99 tensors, {parameters:,} parameters" in lines
    assert not any("without counterpart" in line for line in lines)
    weights.load(target)
    for name, parameter in source.named_parameters():
        assert torch.equal(target.get_parameter(name), parameter), name


def test_the_archive_carries_the_settings_and_they_are_compared(tmp_path: Path) -> None:
    weights = NemoWeights(location=str(tmp_path / "m.nemo"))
    weights.save(make_task(scale_input=False, attention_context=(16, 3)))
    with opened(tmp_path / "m.nemo") as content:
        assert content.config is not None
        encoder = content.config["encoder"]
        assert encoder["_target_"] == "nemo.collections.asr.modules.ConformerEncoder"
        assert (encoder["xscaling"], encoder["att_context_size"]) == (False, [16, 3])
        assert content.config["target"].endswith(".EncDecDenoiseMaskedTokenPredModel")
    with pytest.raises(CheckpointError, match="xscaling: False in the file, True here"):
        weights.load(make_task())
    accepting = open_weights(f"nemo:{tmp_path}/m.nemo?other_settings=true")
    notes = accepting.load(make_task()).notes
    assert any("accepted: encoder.xscaling" in note for note in notes)


def test_the_settings_of_a_task_are_plain_values() -> None:
    found = configuration(make_task(conv_context="causal", books=2))
    assert yaml.safe_load(yaml.safe_dump(found)) == found
    assert found["encoder"]["conv_context_size"] == "causal"
    assert found["decoder"]["num_decoders"] == found["quantizer"]["num_books"] == 2


def test_an_archive_of_old_numerics_says_which_options_are_equal_to_it(tmp_path: Path) -> None:
    task = make_task()
    sizes = {"dim": 32, "layers": 2, "heads": 4, "kernel": 9, "channels": 8, "classes": 64}
    config = {**configuration(task), "nemo_version": "2.1.0rc0"}
    write(tmp_path / "m.nemo", nemo_state(**sizes), config)
    (note,) = NemoWeights(location=str(tmp_path / "m.nemo")).load(task).notes[-1:]
    assert note.startswith("written by NeMo 2.1")
    assert "task.encoder.mask_subsampling=false" in note


def test_saving_says_what_nemo_does_otherwise(tmp_path: Path) -> None:
    plain = NemoWeights(location=str(tmp_path / "plain.nemo")).save(make_task())
    assert not any("not the same" in line for line in plain)
    assert any(line.startswith("preprocessor.pad_to is 16") for line in plain)
    task: Any = make_task(mask_subsampling=False)
    task.features.edges = "reflect"
    task.features.pad_to = 32
    lines = NemoWeights(location=str(tmp_path / "m.nemo")).save(task)
    told = [line for line in lines if line.startswith("not the same in NeMo: task.")]
    assert any("task.features.edges=reflect" in line for line in told)
    assert any("task.encoder.mask_subsampling=false" in line for line in told)
    assert not any("pad_to" in line for line in lines)


def test_weights_that_nemo_has_no_place_for_are_named(tmp_path: Path) -> None:
    task = make_task()
    task.adapter = torch.nn.Linear(2, 2)
    lines = NemoWeights(location=str(tmp_path / "m.ckpt")).save(task)
    assert "without counterpart in NeMo: adapter.weight, adapter.bias" in lines


@pytest.mark.parametrize("levels", [4, 7])
def test_a_crafted_configuration_is_refused_in_few_words(levels: int, tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    value: list[Any] = ["x"]
    for _ in range(levels):
        value = [value] * 8
    config = configuration(make_task())
    config["encoder"]["xscaling"] = value
    write(path, nemo_state(dim=32, layers=2, heads=4, kernel=9, channels=8, classes=64), config)
    with pytest.raises(CheckpointError, match=r"xscaling: not readable|aliases stand") as caught:
        NemoWeights(location=str(path)).load(make_task())
    assert len(str(caught.value)) < 600


def test_replacing_a_file_is_told(tmp_path: Path) -> None:
    weights = NemoWeights(location=str(tmp_path / "m.ckpt"))
    assert "former" not in weights.save(make_task())[0]
    assert weights.save(make_task())[0].endswith(", in place of the former file")
