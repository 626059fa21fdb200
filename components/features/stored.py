"""Opens what ``python -m core.prepare cache`` made, whichever of the two it is."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from components.features.encoder_cache import FIELD, EncoderCache, encoder_fingerprint
from components.features.whisper_cache import WhisperCache
from components.speech_llm.speech_llm import SpeechLLM
from core.data.feature_index import FINGERPRINT, INDEX, StoredDtype
from core.data.fingerprint import Fingerprint
from core.errors import ConfigError, DataError

StoredFeatures: TypeAlias = WhisperCache | EncoderCache


def open_stored(folder: Path, *, dtype: StoredDtype, model: SpeechLLM | None) -> StoredFeatures:
    """Open a cache of features or of encoder outputs.

    Args:
        folder: of the shards.
        dtype: that they must be stored in.
        model: whose encoder must have made encoder outputs.

    Raises:
        FingerprintError: they were made by another processor or encoder, or in another dtype.
        ConfigError: they are encoder outputs, and no model is given.
        DataError: they are missing, not finished or damaged.
    """
    if not (folder / INDEX).is_file() or not (folder / FINGERPRINT).is_file():
        raise DataError(
            f"features not found: {folder} has no {INDEX}; make or finish it with "
            f"python -m core.prepare cache MANIFEST {folder}"
        )
    cache: StoredFeatures
    if FIELD not in Fingerprint.read(folder / FINGERPRINT).fields:
        cache = WhisperCache(folder=folder)
    elif model is None:
        raise ConfigError(
            f"{folder} holds encoder outputs, which are right for one model only; set the data's "
            "'model' to that of the task"
        )
    else:
        cache = EncoderCache(
            folder=folder,
            expected=encoder_fingerprint(
                base=model.base, quantization=model.quantization, dtype=model.dtype
            ),
        )
    if cache.reader.dtype != dtype:
        raise DataError(
            f"{folder} is stored in {cache.reader.dtype}, and {dtype} is expected; set the data's "
            f"dtype, or make it again with --dtype {dtype}"
        )
    return cache
