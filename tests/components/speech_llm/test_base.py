from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from components.speech_llm.base import load_base
from core.errors import CheckpointError


def test_a_base_is_frozen_evaluated_and_of_the_dtype(tiny: Path) -> None:
    base = load_base(str(tiny))
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.training
    dtypes = {name: p.dtype for name, p in base.model.named_parameters()}
    exact = [name for name, dtype in dtypes.items() if dtype == torch.float32]
    assert exact == ["model.audio_tower.embed_positions.weight"]
    assert base.quantized == 0
    assert base.attention.name == "sdpa"


def test_weights_of_another_shape_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 64', '"hidden_size": 32'))
    with pytest.raises(CheckpointError, match="cannot be loaded as Voxtral"):
        load_base(str(folder), dtype="float32")


def test_cut_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be loaded as Voxtral"):
        load_base(str(folder))


def test_weights_that_are_not_there_are_not_drawn(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    lost = [name for name in weights if "multi_modal_projector.linear_2" in name]
    kept = {name: value for name, value in weights.items() if name not in lost}
    safetensors.torch.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert len(lost) == 1
    with pytest.raises(CheckpointError, match=r"no weights of .*projector\.linear_2\.weight"):
        load_base(str(folder))


def test_loading_draws_nothing_and_leaves_bars_as_they_were(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    load_base(str(tiny))
    assert logging.is_progress_bar_enabled() == shown
    assert "Loading" not in capsys.readouterr().err
