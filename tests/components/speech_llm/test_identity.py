from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from components.speech_llm.identity import ASSET, SAMPLE_BYTES, SAMPLES, identify, require_same
from core.contracts import RunContext
from core.errors import CheckpointError


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    return folder


def test_a_copy_is_the_same_and_runtime_settings_do_not_matter(tiny: Path, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"transformers_version": "5.99.0", "dtype": "bfloat16"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "README.md").write_text("more")
    assert identify(copy).digest == identify(tiny).digest


def test_one_changed_weight_is_another_base(tiny: Path, copy: Path, tmp_path: Path) -> None:
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    assert len(content) < 2 * SAMPLES * SAMPLE_BYTES  # small files are read as a whole, or nearly
    content[-5] ^= 1
    file.write_bytes(content)
    context = RunContext(assets=tmp_path / "assets")
    require_same(identify(tiny), context, folder=tiny)
    assert (context.assets / ASSET).is_file()
    require_same(identify(tiny), context, folder=tiny)
    with pytest.raises(CheckpointError, match=r"is not the base model that .* trained on: "):
        require_same(identify(copy), context, folder=copy)


def test_other_settings_and_other_files_are_named(tiny: Path, copy: Path, tmp_path: Path) -> None:
    context = RunContext(assets=tmp_path / "assets")
    require_same(identify(tiny), context, folder=tiny)
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 1e-3
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "model.safetensors").rename(copy / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError) as refusal:
        require_same(identify(copy), context, folder=copy)
    assert "its settings differ; model.safetensors is not there; model-1.safetensors is new" in str(
        refusal.value
    )


def test_what_is_no_safetensors_file_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(CheckpointError, match="is no safetensors file, or is cut short"):
        identify(copy)


def test_a_finished_model_must_know_its_base(tiny: Path, tmp_path: Path) -> None:
    context = RunContext(assets=tmp_path, training=False)
    with pytest.raises(CheckpointError, match="it says which base model is needed"):
        require_same(identify(tiny), context, folder=tiny)


def test_only_the_first_rank_writes(tiny: Path, tmp_path: Path) -> None:
    require_same(identify(tiny), RunContext(assets=tmp_path, rank=1), folder=tiny)
    assert not (tmp_path / ASSET).exists()
