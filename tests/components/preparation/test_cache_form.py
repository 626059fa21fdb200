from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from components.features.whisper import WhisperFeatures
from components.features.whisper_cache import WhisperCache
from components.preparation.cache import Cache
from components.preparation.cache_form import EncoderForm, EncoderSettings, FeatureForm
from components.preparation.cache_work import CacheJob, Extracted, extract
from components.speech_llm.tiny import write_tiny
from core.data.audio import load_audio, recording
from core.data.feature_index import StoredDtype
from tests.components.preparation.test_cache import failed, manifest, noise
from tests.components.speech_llm.other_families import write_family


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def extraction(path: Path, *, dtype: StoredDtype) -> tuple[Extracted, torch.Tensor]:
    """Return what a worker gives for an audio file, and its features in full."""
    cut = recording(path, utterance=path.name).to_cut()
    result = extract(CacheJob(cut=cut, dtype=dtype, stamp=7.0))
    assert isinstance(result, Extracted)
    audio = load_audio(cut, sample_rate=16000)
    return result, WhisperFeatures()(torch.from_numpy(audio))


def test_features_are_stored_without_their_padding(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2), 16000)
    result, features = extraction(tmp_path / "a.wav", dtype="float32")
    array, values = FeatureForm().stored(result)
    assert torch.equal(array, features[0, :, :202])
    assert values == {"fill": features[0, 0, -1].item(), "samples": 32000, "audio": 7.0}


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_an_encoder_gives_every_row_of_every_chunk(
    tmp_path: Path, tiny: Path, dtype: StoredDtype
) -> None:
    soundfile.write(tmp_path / "a.flac", noise(31), 16000)
    result, features = extraction(tmp_path / "a.flac", dtype=dtype)
    device = torch.device("cpu")
    settings = EncoderSettings(base=str(tiny), quantization="none", dtype=dtype, device=device)
    form = EncoderForm(settings)
    array, values = form.stored(result)
    assert array.shape == (2 * 375, 256)
    assert array.dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
    assert values == {"samples": 496_000, "audio": 7.0}
    from transformers import VoxtralForConditionalGeneration

    model = VoxtralForConditionalGeneration.from_pretrained(tiny, dtype=array.dtype)
    with torch.no_grad():
        hidden = [model.model.audio_tower(part.to(array.dtype)) for part in features.split(1)]
    wanted = torch.cat([part.last_hidden_state.reshape(375, 256) for part in hidden])
    assert torch.equal(array, wanted)


def test_audio_that_an_encoder_refuses_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GLM-ASR computes the features of longer audio otherwise."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = write_family(tmp_path / "base", "glmasr")
    for name, seconds in (("short.flac", 2), ("long.flac", 31)):
        soundfile.write(tmp_path / name, noise(seconds), 16000)
    path = manifest(tmp_path, [{"audio_filepath": f"{name}.flac"} for name in ("short", "long")])
    said: list[str] = []
    Cache(
        manifest=str(path),
        output=tmp_path / "out",
        workers=1,
        dtype="float32",
        encoder=str(base),
        quantization="none",
        device="cpu",
    )(said.append)
    assert any(line.endswith("encoder outputs of 1 utterances, 1 made now") for line in said)
    assert failed(tmp_path) == {"long.flac": "refused by the encoder"}


def test_a_cache_of_features_opens_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    path = manifest(tmp_path, [{"audio_filepath": "a.wav"}])
    Cache(manifest=str(path), output=tmp_path / "out", workers=1)(lambda _: None)
    assert FeatureForm().open(tmp_path / "out").ids == ("a.wav",)
    assert WhisperCache(folder=tmp_path / "out")("a.wav").eq(-1.5).all(), "silence"
