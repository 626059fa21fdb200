from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.adapter_files.measure import measure
from components.adapter_files.merge import deltas, merge
from components.adapter_files.merged import MergedWeights
from components.speech_llm.lora import LoRA
from components.speech_llm.tiny import write_tiny
from core.errors import CheckpointError, ConfigError
from core.inference import load_model
from tests.components.adapter_files.conftest import Make, Texts
from tests.fixtures.adapters import heard

MODEL = "model.safetensors"
CHANGED = {f"multi_modal_projector.linear_{number}.weight" for number in (1, 2)}


def merged(folder: Path) -> MergedWeights:
    return MergedWeights(location=str(folder))


def test_a_merged_model_gives_the_same_transcripts(
    make: Make, texts: Texts, base: Path, tmp_path: Path
) -> None:
    lines = merged(tmp_path / "full").save(make(trained=True))
    assert "merged into multi_modal_projector.linear_1.weight" in lines[0]
    assert "differ by" in lines[1]
    assert "the most likely token is the same at 8" in lines[2]
    model = load_model(tmp_path / "full", device="cpu")
    assert heard(model.task) == texts.adapted
    assert not model.adapted
    assert (model.task.language, model.task.text.kspon) == ("ko", "orthographic")
    assert {path.name for path in base.iterdir()} | {"sori.json"} == {
        path.name for path in (tmp_path / "full").iterdir()
    }


def test_what_is_not_adapted_stays_as_it_was_stored(make: Make, base: Path, tmp_path: Path) -> None:
    task = make(trained=True)
    parts = deltas(task.model)
    made = merge(base, parts, into=tmp_path)
    assert set(made.changed) == CHANGED
    before, after = load_file(base / MODEL), load_file(tmp_path / MODEL)
    assert {name for name in before if not torch.equal(before[name], after[name])} == CHANGED
    for name in CHANGED:
        second, first = parts[f"model.{name.removesuffix('.weight')}"]
        assert torch.equal(after[name], (before[name].double() + second @ first).float())
    for path in base.iterdir():
        if path.name != MODEL:
            assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_a_quantised_base_is_merged_as_it_is_stored(make: Make, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    task = make(quantization="nf4", trained=True)
    before = heard(task)
    merged(tmp_path / "full").save(task)
    model = load_model(tmp_path / "full", device="cpu")
    assert model.task.model.quantization == "nf4"
    assert heard(model.task) == before
    stored, now = load_file(base / MODEL), load_file(tmp_path / "full" / MODEL)
    assert {name for name in stored if not torch.equal(stored[name], now[name])} == CHANGED


def test_weights_in_half_precision_are_rounded_once(make: Make, tmp_path: Path) -> None:
    half = write_tiny(tmp_path / "half", hidden=32, layers=1)
    state = {name: v.to(torch.bfloat16) for name, v in load_file(half / MODEL).items()}
    save_file(state, half / MODEL, metadata={"format": "pt"})
    task = make(folder=half, trained=True, dtype="bf16")
    parts = deltas(task.model)
    (tmp_path / "full").mkdir()
    merge(half, parts, into=tmp_path / "full")
    after = load_file(tmp_path / "full" / MODEL)
    for name in CHANGED:
        second, first = parts[f"model.{name.removesuffix('.weight')}"]
        exact = state[name].double() + second @ first
        assert torch.equal(after[name], exact.to(torch.bfloat16))
    found = measure(task.model, tmp_path / "full", language="ko")
    assert found.form == "bf16, not quantised"
    assert 0 < found.largest < 0.1 * found.effect


def test_an_adapter_of_other_layers_is_merged_by_name(
    make: Make, base: Path, tmp_path: Path
) -> None:
    lora = LoRA(rank=2, targets=("model.language_model.layers.0.mlp.up_proj", "lm_head"))
    task = make(trained=True, lora=lora)
    made = merge(base, deltas(task.model), into=tmp_path)
    assert set(made.changed) == {
        "language_model.model.layers.0.mlp.up_proj.weight",
        "language_model.lm_head.weight",
    }
    assert measure(task.model, tmp_path, language=None).largest < 1e-3


def test_shards_and_other_forms_of_the_weights(make: Make, base: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sharded = write_tiny(tmp_path / "sharded", hidden=32, layers=1)
    model = transformers.VoxtralForConditionalGeneration.from_pretrained(sharded)
    (sharded / MODEL).unlink()
    model.save_pretrained(sharded, max_shard_size="40KB")
    for name in ("consolidated.safetensors", "pytorch_model.bin", "params.json", ".gitattributes"):
        (sharded / name).write_bytes(b"0")
    (sharded / "original").mkdir()
    (tmp_path / "full").mkdir()
    made = merge(sharded, deltas(make(trained=True).model), into=tmp_path / "full")
    assert made.left_out == (
        "consolidated.safetensors",
        "original",
        "params.json",
        "pytorch_model.bin",
    )
    assert not (tmp_path / "full" / ".gitattributes").exists()
    assert len(list((tmp_path / "full").glob("model-*.safetensors"))) > 1
    assert measure(make(trained=True).model, tmp_path / "full", language="ko").largest < 1e-3


def test_what_cannot_be_merged_is_refused_before_anything_is_written(
    make: Make, base: Path, tmp_path: Path
) -> None:
    odd = write_tiny(tmp_path / "odd", hidden=32, layers=1)
    state = load_file(odd / MODEL)
    state["multi_modal_projector.linear_1.weight"] = torch.zeros(3, 3, dtype=torch.int8)
    del state["multi_modal_projector.linear_2.weight"]
    save_file(state, odd / MODEL)
    (tmp_path / "into").mkdir()
    with pytest.raises(CheckpointError) as caught:
        merge(odd, deltas(make().model), into=tmp_path / "into")
    assert "multi_modal_projector.linear_1.weight is stored as I8" in str(caught.value)
    assert "linear_2.weight is in none of its files" in str(caught.value)
    assert list((tmp_path / "into").iterdir()) == []


def test_folders_that_hold_something_are_left_alone(make: Make, base: Path, tmp_path: Path) -> None:
    task = make()
    with pytest.raises(CheckpointError, match="is the base model itself"):
        merged(base).save(task)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="is not empty"):
        merged(tmp_path).save(task)


def test_a_whole_model_is_used_as_a_base_not_beside_one(make: Make, base: Path) -> None:
    with pytest.raises(ConfigError, match="--base is for adapters"):
        load_model(base, device="cpu", base=str(base))
    with pytest.raises(CheckpointError, match=r"train on it with task\.model\.base="):
        merged(base.parent).load(make())
