"""Outputs of a frozen encoder from shards, keyed by the weights that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.features.whisper import chunk_count
from components.features.whisper_cache import audio_fields
from components.speech_llm.base import Precision, find_base
from components.speech_llm.missing import CONFIG, read_config, weight_names
from components.speech_llm.quantization import Quantization
from core.data.feature_index import DTYPES
from core.data.feature_map import as_bits
from core.data.feature_shards import FeatureReader
from core.data.fingerprint import Fingerprint
from core.errors import CheckpointError

VALUES = ("samples", "audio")
"""What is stored with the rows: samples of the audio at 16 kHz, and the digest of the file that
:data:`components.features.whisper_cache.VALUES` has too."""

FIELD = "encoder"
"""Field of the fingerprint that tells encoder outputs from features."""

_TOWER = "audio_tower."
_READ = 1 << 24
_UNIMPORTANT = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")


def encoder_fingerprint(*, base: str, quantization: Quantization, dtype: Precision) -> Fingerprint:
    """Return what encoder outputs depend on beside the audio.

    The digest is of the encoder's weights alone, every byte of them, so bases that differ only in
    projector or language model share a cache. 1.3 GB take about two seconds.

    Args:
        base: folder of the base model, or id on the hub.
        quantization: of its layers, which takes in the encoder's.
        dtype: that it computes in.

    Raises:
        CheckpointError: files are missing, or hold no encoder.
        ConfigError: the model is of no known family.
    """
    folder, family = find_base(base)
    settings = read_config(folder / CONFIG).get("audio_config")
    kept = settings if isinstance(settings, dict) else {}
    fields: dict[str, Any] = {
        **audio_fields(),
        FIELD: {
            "family": family.model_type,
            "settings": {k: v for k, v in sorted(kept.items()) if k not in _UNIMPORTANT},
            "weights": weights_digest(folder),
            "quantization": quantization,
            "dtype": dtype,
        },
    }
    return Fingerprint(fields=fields)


def weights_digest(folder: Path) -> str:
    """Return a digest of names, types, shapes and bytes of an encoder's weights.

    Names begin behind ``audio_tower.``, so those of any version of transformers are the same.
    Raises CheckpointError where there are none.
    """
    places: dict[str, tuple[Path, int, int, str]] = {}
    for name in weight_names(folder):
        path = folder / name
        begin, header = _header(path)
        for key, entry in header.items():
            if _TOWER in key:
                first, last = entry["data_offsets"]
                kind = f"{entry['dtype']} {entry['shape']}"
                places[key.split(_TOWER, 1)[1]] = (path, begin + first, begin + last, kind)
    if not places:
        raise CheckpointError(f"{folder} has no weights of an encoder ('{_TOWER}...')")
    digest = hashlib.blake2b(digest_size=16)
    for name, (path, first, last, kind) in sorted(places.items()):
        digest.update(f"{name} {kind}\n".encode())
        with path.open("rb") as file:
            file.seek(first)
            while first < last and (part := file.read(min(_READ, last - first))):
                digest.update(part)
                first += len(part)
    return digest.hexdigest()


class EncoderCache:
    """The encoder outputs that ``python -m core.prepare cache --encoder`` stored, by utterance id.

    Args:
        folder: of the shards.
        expected: what they must have been made with, see :func:`encoder_fingerprint`.

    Raises:
        FingerprintError: they were made by another encoder, or with other settings.
        DataError: they are missing, not finished or damaged.
    """

    def __init__(self, *, folder: Path, expected: Fingerprint) -> None:
        self.reader = FeatureReader(folder=folder, expected=expected)

    def samples(self, identity: str) -> int:
        """Return the samples of audio at 16 kHz behind an utterance. Raises DataError."""
        return int(self.reader.values(identity)["samples"])

    def batch(self, identities: Sequence[str]) -> Tensor:
        """Return the chunks of utterances one after the other, (C, R, W), in one allocation.

        Raises:
            DataError: an id that is not stored, or damage.
        """
        dtype = DTYPES[self.reader.dtype]
        if not identities:
            return torch.empty((0, 0, 0), dtype=dtype)
        parts = [self.reader.bits(identity) for identity in identities]
        chunks = sum(chunk_count(self.samples(identity)) for identity in identities)
        rows, width = sum(len(part) for part in parts), parts[0].shape[1]
        whole = torch.empty((rows, width), dtype=dtype)
        room, start = as_bits(whole), 0
        for part in parts:
            room[start : start + len(part)] = part
            start += len(part)
        return whole.view(chunks, -1, width)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return where the arrays of a safetensors file begin, and its entries."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, path.stat().st_size)))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error
    header.pop("__metadata__", None)
    return 8 + length, header
