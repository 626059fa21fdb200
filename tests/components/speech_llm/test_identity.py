from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.speech_llm.identity import (
    ASSET,
    SAMPLE_BYTES,
    SAMPLES,
    differences,
    identify,
    require_same,
)
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
    content[-5] ^= 1
    file.write_bytes(content)
    context = RunContext(assets=tmp_path / "assets")
    require_same(identify(tiny), context, folder=tiny)
    assert (context.assets / ASSET).is_file()
    require_same(identify(tiny), context, folder=tiny)
    with pytest.raises(CheckpointError, match=r"is not the base model that .* trained on: "):
        require_same(identify(copy), context, folder=copy)


def large(folder: Path, *, changed: tuple[str, int] | None = None, merged: str = "") -> Path:
    """Write a base of 16 MB: one byte may be another, or one matrix have an adapter merged."""
    generator = torch.Generator().manual_seed(0)
    names = ("language_model.lm_head.weight", "multi_modal_projector.linear_1.weight")
    state = {name: torch.randn(2048, 2048, generator=generator).bfloat16() for name in names}
    if changed is not None:
        state[changed[0]].view(torch.uint8).view(-1)[changed[1]] ^= 1
    if merged:
        second, first = (torch.randn(s, generator=generator) for s in ((2048, 2), (2, 2048)))
        state[merged] = (state[merged].float() + 1e-3 * second @ first).bfloat16()
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "voxtral"}')
    assert (folder / "model.safetensors").stat().st_size > 500 * SAMPLES * SAMPLE_BYTES
    return folder


@pytest.mark.parametrize("byte", [0, 12_345, 4_000_001, 8_388_607])
def test_every_byte_of_the_projector_counts_however_large_the_base(
    tmp_path: Path, byte: int
) -> None:
    kept = identify(large(tmp_path / "base"))
    other = large(tmp_path / "other", changed=("multi_modal_projector.linear_1.weight", byte))
    assert differences(kept, identify(other)) == ["model.safetensors differs in its projector"]


def test_an_adapter_merged_into_any_matrix_makes_another_base(tmp_path: Path) -> None:
    kept = identify(large(tmp_path / "base"))
    other = large(tmp_path / "merged", merged="language_model.lm_head.weight")
    assert differences(kept, identify(other)) == ["model.safetensors differs in its samples"]


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
    with pytest.raises(CheckpointError, match="it has no header, or is cut short"):
        identify(copy)


def test_a_finished_model_must_know_its_base(tiny: Path, tmp_path: Path) -> None:
    context = RunContext(assets=tmp_path, training=False)
    with pytest.raises(CheckpointError, match="it says which base model is needed"):
        require_same(identify(tiny), context, folder=tiny)


def test_only_the_first_rank_writes(tiny: Path, tmp_path: Path) -> None:
    require_same(identify(tiny), RunContext(assets=tmp_path, rank=1), folder=tiny)
    assert not (tmp_path / ASSET).exists()
