from __future__ import annotations

import json
import warnings
from pathlib import Path

import fiddle as fdl
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.adapter_files.peft import PeftWeights
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from core.errors import CheckpointError
from core.inference import load_model
from core.train.initial import initialise, start_name
from tests.components.adapter_files.conftest import Make, Texts
from tests.fixtures.adapters import TOKENS, heard

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@pytest.fixture
def adapter(make: Make, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    PeftWeights(location=str(folder)).save(make(trained=True))
    return folder


def weights(folder: Path, **options: bool) -> PeftWeights:
    return PeftWeights(location=str(folder), **options)


def edit(folder: Path, **settings: object) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def rename(folder: Path, old: str, new: str) -> None:
    state = load_file(folder / WEIGHTS)
    save_file({name.replace(old, new): value for name, value in state.items()}, folder / WEIGHTS)


def test_a_saved_adapter_gives_the_same_transcripts(
    make: Make, adapter: Path, texts: Texts
) -> None:
    fresh = make()
    report = weights(adapter).load(fresh)
    assert heard(fresh) == texts.adapted
    assert report.lines()[0] == "4 tensors matched, 1,792 values"
    assert report.notes == ()


def test_a_run_starts_from_it(make: Make, adapter: Path, texts: Texts, tmp_path: Path) -> None:
    task = make()
    config = fdl.Config(dict)
    lines = initialise(task, f"peft:{adapter}", config=config, assets=tmp_path / "assets")
    assert lines[0] == f"weights from peft:{adapter}:"
    assert heard(task) == texts.adapted
    assert start_name(f"peft:{adapter}") == f"peft:{adapter}"
    with pytest.raises(CheckpointError, match=f"name it with its form, peft:{adapter}"):
        start_name(str(adapter))


def test_it_opens_with_peft_alone(make: Make, adapter: Path, base: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = transformers.VoxtralForConditionalGeneration.from_pretrained(base)
        opened = peft.PeftModel.from_pretrained(model, adapter)
    rows = torch.randn(7, 128, generator=torch.Generator().manual_seed(0))
    ours = make(trained=True).model.net.base_model.model.model.multi_modal_projector
    theirs = opened.base_model.model.model.multi_modal_projector
    assert torch.equal(ours(rows), theirs(rows))
    with opened.disable_adapter():
        assert not torch.equal(ours(rows), theirs(rows))


def test_the_folder_is_a_model_with_the_settings_of_its_task(
    make: Make, texts: Texts, adapter: Path, base: Path
) -> None:
    model = load_model(adapter, device="cpu")
    assert model.adapted
    assert model.notes == ()
    assert heard(model.task) == texts.adapted
    assert (model.task.language, model.task.text.kspon) == ("ko", "orthographic")
    assert model.task.text.fingerprint == make().text.fingerprint
    changed = load_model(adapter, device="cpu", overrides=["task.language=en"], base=str(base))
    assert changed.task.language == "en"
    with changed.task.unadapted():
        changed.task.language = "ko"
        assert heard(changed.task) == texts.alone


def test_another_base_is_refused_unless_it_is_meant(
    make: Make, adapter: Path, tmp_path: Path
) -> None:
    other = write_tiny(tmp_path / "other", hidden=32, layers=1, seed=1)
    with pytest.raises(CheckpointError, match="not the base model that this adapter was trained"):
        load_model(adapter, device="cpu", base=str(other))
    (tmp_path / "assets" / "speech_llm_base.json").unlink()
    task = make(folder=other)
    with pytest.raises(CheckpointError, match=r"trained on another base .*\?other_base=true"):
        weights(adapter).load(task)
    assert weights(adapter, other_base=True).load(task).taken


def test_names_of_transformers_4_are_mapped_and_said_so(
    make: Make, texts: Texts, adapter: Path, tmp_path: Path
) -> None:
    rename(adapter, "base_model.model.model.multi", "base_model.model.multi")
    task = make()
    (note,) = weights(adapter).load(task).notes
    assert note == (
        "4 names are those of older libraries: "
        "base_model.model.multi_modal_projector.linear_1.lora_A.weight is now "
        "base_model.model.model.multi_modal_projector.linear_1.lora_A.weight"
    )
    assert heard(task) == texts.adapted
    assert load_model(adapter, device="cpu").notes == (note,)


def test_an_adapter_of_other_scripts_needs_its_base_and_says_what_it_does_not_know(
    make: Make, texts: Texts, adapter: Path, base: Path
) -> None:
    (adapter / "sori.json").unlink()
    edit(adapter, base_model_name_or_path=None)
    with pytest.raises(CheckpointError, match="names no base model; name one with --base"):
        load_model(adapter, device="cpu")
    overrides = ["task.model.quantization=none", "task.model.dtype=float32"]
    overrides += ["task.language=ko", f"task.model.max_new_tokens={TOKENS}"]
    model = load_model(adapter, device="cpu", base=str(base), overrides=overrides)
    (note,) = model.notes
    assert note.startswith(f"{adapter} has no sori.json, so what it was trained with is not known")
    assert (
        f"taking base {base}, quantization none, dtype float32, language ko, scores as written"
        in note
    )
    assert "task.language, task.text change that" in note
    plain = load_model(adapter, device="cpu", base=str(base))
    assert "quantization nf4, dtype bf16, no language, scores as written" in plain.notes[0]
    assert heard(model.task) == texts.adapted


def test_pickled_tensors_are_read_as_data(make: Make, texts: Texts, adapter: Path) -> None:
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()
    task = make()
    weights(adapter).load(task)
    assert heard(task) == texts.adapted


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("linear_2", "linear_3", r"not in model .*\.linear_3\.lora_A: weight"),
        ("base_model.model.", "", r"not in model  model\.multi_modal_projector\.linear_1\.lora_A"),
    ],
)
def test_a_tensor_without_a_place_is_refused_by_name(
    make: Make, adapter: Path, old: str, new: str, message: str
) -> None:
    rename(adapter, old, new)
    task = make()
    before = task.model.adapter_state()
    with pytest.raises(CheckpointError, match=message):
        weights(adapter).load(task)
    assert all(torch.equal(v, before[n]) for n, v in task.model.adapter_state().items())


def test_half_an_adapter_is_refused(make: Make, adapter: Path) -> None:
    state = load_file(adapter / WEIGHTS)
    save_file({n: v for n, v in state.items() if "linear_1" in n}, adapter / WEIGHTS)
    with pytest.raises(CheckpointError, match="linear_2"):
        weights(adapter).load(make())


@pytest.mark.parametrize("targets", [None, r".*\.linear_[12]", ["linear_1", "linear_2"]])
def test_half_an_adapter_is_not_used_as_one_of_fewer_layers(adapter: Path, targets: object) -> None:
    state = load_file(adapter / WEIGHTS)
    save_file({n: v for n, v in state.items() if "linear_1" in n}, adapter / WEIGHTS)
    if targets is not None:
        edit(adapter, target_modules=targets)
    with pytest.raises(CheckpointError, match=r"no tensors for .*projector\.linear_2"):
        load_model(adapter, device="cpu")


def test_tensors_of_layers_that_the_settings_do_not_name_are_refused(
    make: Make, adapter: Path
) -> None:
    edit(adapter, target_modules=["linear_1"])
    task = make()
    before = task.model.adapter_state()
    with pytest.raises(CheckpointError, match=r"linear_2, which target_modules does not name"):
        weights(adapter).load(task)
    assert all(torch.equal(v, before[n]) for n, v in task.model.adapter_state().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "no plain LoRA: use_dora=True"),
        ({"modules_to_save": ["lm_head"], "bias": "all"}, "modules_to_save=.*bias='all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"peft_type": "IA3"}, "peft_type is IA3; expected LORA"),
        ({"r": "many"}, "r, lora_alpha and lora_dropout are needed"),
        ({"r": 4}, r"has rank 4; this model has rank 8; set task\.model\.lora\.rank=4"),
        ({"lora_alpha": 32}, r"set task\.model\.lora\.alpha=32"),
    ],
)
def test_what_would_compute_something_else_is_refused(
    make: Make, adapter: Path, settings: dict[str, object], message: str
) -> None:
    edit(adapter, **settings)
    with pytest.raises(CheckpointError, match=message):
        weights(adapter).load(make())


def test_folders_without_an_adapter_are_refused(make: Make, adapter: Path, tmp_path: Path) -> None:
    task = make()
    with pytest.raises(CheckpointError, match="no such folder"):
        weights(tmp_path / "gone").load(task)
    with pytest.raises(CheckpointError, match=f"has no {CONFIG}"):
        weights(tmp_path).load(task)
    (adapter / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} cannot be read"):
        weights(adapter).load(task)
    (adapter / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"has no {WEIGHTS}"):
        weights(adapter).load(task)
    with pytest.raises(CheckpointError, match="has no speech LLM"):
        weights(adapter).load(torch.nn.Linear(2, 2))


def test_an_adapter_replaces_an_adapter_and_nothing_else(
    make: Make, adapter: Path, tmp_path: Path
) -> None:
    task = make(trained=True)
    lines = weights(adapter).save(task)
    assert lines[0].endswith("in place of the former adapter")
    assert lines[1].startswith("4 tensors, 1,792 parameters, for ")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="is not empty and holds no adapter_config"):
        weights(tmp_path / "other").save(task)


def test_other_targets_and_ranks_come_back(make: Make, tmp_path: Path) -> None:
    lora = LoRA(
        rank=3, alpha=4.5, targets=("linear_2", "model.language_model.layers.0.mlp.up_proj")
    )
    task = make(trained=True, lora=lora)
    weights(tmp_path / "wide").save(task)
    model = load_model(tmp_path / "wide", device="cpu")
    assert isinstance(model.task.model, SpeechLLM)
    assert (model.task.model.lora.rank, model.task.model.lora.alpha) == (3, 4.5)
    assert heard(model.task) == heard(task)
