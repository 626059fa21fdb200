from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.features.encoder_cache import (
    VALUES,
    EncoderCache,
    encoder_fingerprint,
    weights_digest,
)
from components.speech_llm.tiny import write_tiny
from core.data.feature_index import DTYPES, StoredDtype
from core.data.feature_writer import FeatureWriter
from core.data.fingerprint import FingerprintError
from core.errors import CheckpointError

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("base"))


def altered(base: Path, folder: Path, name: str, change: float) -> Path:
    """Copy a base, with one number of one array changed."""
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    arrays = load_file(folder / WEIGHTS)
    (key,) = [key for key in arrays if key.endswith(name)]
    arrays[key].view(-1)[-1] += change
    save_file(arrays, folder / WEIGHTS, {"format": "pt"})
    return folder


def store(folder: Path, base: Path, *, dtype: StoredDtype = "float32") -> dict[str, torch.Tensor]:
    made = encoder_fingerprint(base=str(base), quantization="none", dtype=dtype)
    arrays = {
        "가": torch.randn(1, 375, 16, generator=torch.Generator().manual_seed(0)),
        "나": torch.randn(3, 375, 16, generator=torch.Generator().manual_seed(1)),
    }
    with FeatureWriter(folder=folder, fingerprint=made, values=VALUES, dtype=dtype) as writer:
        for name, array in arrays.items():
            samples = 480_000 * array.shape[0] - 7
            writer.add(name, array.flatten(0, 1), {"samples": samples, "audio": 0.0})
        writer.finish()
    return {name: array.to(DTYPES[dtype]) for name, array in arrays.items()}


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_rows_come_back_by_chunks(tmp_path: Path, base: Path, dtype: StoredDtype) -> None:
    arrays = store(tmp_path / "c", base, dtype=dtype)
    expected = encoder_fingerprint(base=str(base), quantization="none", dtype=dtype)
    cache = EncoderCache(folder=tmp_path / "c", expected=expected)
    assert torch.equal(cache.batch(["나", "가"]), torch.cat([arrays["나"], arrays["가"]]))
    assert cache.samples("나") == 1_439_993
    assert cache.batch([]).numel() == 0


def test_another_encoder_is_refused_down_to_one_number(tmp_path: Path, base: Path) -> None:
    store(tmp_path / "c", base)
    other = altered(base, tmp_path / "other", "audio_tower.conv1.bias", 1e-3)
    expected = encoder_fingerprint(base=str(other), quantization="none", dtype="float32")
    with pytest.raises(FingerprintError, match=r"encoder\.weights: '\w+' there, '\w+' expected"):
        EncoderCache(folder=tmp_path / "c", expected=expected)


def test_another_language_model_is_not(tmp_path: Path, base: Path) -> None:
    store(tmp_path / "c", base)
    other = altered(base, tmp_path / "other", "lm_head.weight", 1.0)
    expected = encoder_fingerprint(base=str(other), quantization="none", dtype="float32")
    EncoderCache(folder=tmp_path / "c", expected=expected)


def test_another_quantisation_is_refused(tmp_path: Path, base: Path) -> None:
    store(tmp_path / "c", base)
    expected = encoder_fingerprint(base=str(base), quantization="nf4", dtype="float32")
    with pytest.raises(FingerprintError, match=r"encoder\.quantization: 'none' there, 'nf4'"):
        EncoderCache(folder=tmp_path / "c", expected=expected)


def test_names_of_any_version_and_any_file_give_one_digest(tmp_path: Path, base: Path) -> None:
    arrays = load_file(base / WEIGHTS)
    wanted = weights_digest(base)
    renamed = {name.replace("model.audio_tower", "audio_tower"): a for name, a in arrays.items()}
    if renamed.keys() == arrays.keys():
        renamed = {
            name.replace("audio_tower", "model.audio_tower"): a for name, a in arrays.items()
        }
    assert renamed.keys() != arrays.keys()
    save_file(renamed, tmp_path / WEIGHTS)
    assert weights_digest(tmp_path) == wanted
    names = sorted(renamed)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    split = tmp_path / "split"
    split.mkdir()
    for file, keys in parts.items():
        save_file({key: renamed[key] for key in keys}, split / file)
    placed = ", ".join(f'"{key}": "{file}"' for file, keys in parts.items() for key in keys)
    (split / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{placed}}}}}')
    assert weights_digest(split) == wanted


def test_weights_without_an_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"lm_head.weight": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="no weights of an encoder"):
        weights_digest(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        weights_digest(tmp_path)
