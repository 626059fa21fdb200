from __future__ import annotations

from pathlib import Path

import pytest

from components.features.encoder_cache import EncoderCache
from components.features.stored import open_stored
from components.features.whisper_cache import WhisperCache, cache_fingerprint
from components.speech_llm.lora import LoRA
from components.speech_llm.speech_llm import SpeechLLM
from components.speech_llm.tiny import write_tiny
from core.data.fingerprint import FingerprintError
from core.errors import ConfigError, DataError
from tests.components.features import test_encoder_cache, test_whisper_cache


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("base"))


def model(base: Path) -> SpeechLLM:
    return SpeechLLM(base=str(base), lora=LoRA(), quantization="none", dtype="float32")


def test_features_and_encoder_outputs_are_told_apart(tmp_path: Path, base: Path) -> None:
    settings = cache_fingerprint()
    test_whisper_cache.store(tmp_path / "f", settings=settings, dtype="float32")
    test_encoder_cache.store(tmp_path / "e", base)
    found = open_stored(tmp_path / "f", dtype="float32", model=None)
    assert isinstance(found, WhisperCache)
    found = open_stored(tmp_path / "e", dtype="float32", model=model(base))
    assert isinstance(found, EncoderCache)


def test_encoder_outputs_need_their_model(tmp_path: Path, base: Path) -> None:
    test_encoder_cache.store(tmp_path / "e", base)
    with pytest.raises(ConfigError, match="right for one model only; set the data's 'model'"):
        open_stored(tmp_path / "e", dtype="float32", model=None)
    other = write_tiny(tmp_path / "other", seed=1)
    with pytest.raises(FingerprintError, match=r"encoder\.weights"):
        open_stored(tmp_path / "e", dtype="float32", model=model(other))


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    test_whisper_cache.store(tmp_path / "f", settings=cache_fingerprint(), dtype="float32")
    with pytest.raises(DataError, match="stored in float32, and bf16 is expected"):
        open_stored(tmp_path / "f", dtype="bf16", model=None)


def test_a_folder_without_a_cache_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no index\.safetensors; make or finish it with"):
        open_stored(tmp_path, dtype="bf16", model=None)
